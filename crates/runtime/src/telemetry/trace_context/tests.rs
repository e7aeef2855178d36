//! The examples and prohibitions of the W3C recommendation.

use tonic::metadata::MetadataValue;

use super::*;

const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn parses_as_the_recommendation_says() {
    use TraceParseError::{Digits, Shape, Version, Zero};
    let cases = [
        (VALID.to_owned(), Ok(1)),
        (VALID.replace("-01", "-00"), Ok(0)),
        (VALID.replace("-01", "-ff"), Ok(0xff)),
        (VALID.replacen("00", "cc", 1), Ok(1)),
        (VALID.replacen("00", "cc", 1) + "-what-comes", Ok(1)),
        (VALID.replacen("00", "cc", 1) + ".what", Err(Shape)),
        (VALID.replacen("00", "ff", 1), Err(Version)),
        (VALID.to_owned() + "-more", Err(Shape)),
        (VALID[..54].to_owned(), Err(Shape)),
        (VALID.to_uppercase(), Err(Digits)),
        (VALID.replace('7', "g"), Err(Digits)),
        (VALID.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)), Err(Zero)),
        (VALID.replace("b7ad6b7169203331", &"0".repeat(16)), Err(Zero)),
        (VALID.replace('-', "_"), Err(Shape)),
        (format!("{}é", &VALID[..54]), Err(Digits)),
        (String::new(), Err(Shape)),
    ];
    for (text, expected) in cases {
        let parsed = text.parse::<TraceContext>().map(|context| context.flags());
        assert_eq!(parsed, expected, "{text}");
    }
}

#[test]
fn children_stay_in_the_trace_and_travel_in_metadata() {
    let root: TraceContext = VALID.parse().unwrap();
    assert_eq!(root.to_string(), VALID);
    let child = root.child();
    assert_eq!((child.trace_id(), child.flags()), (root.trace_id(), 1));
    assert_ne!(child.parent_id(), root.parent_id());

    let mut request = Request::new(());
    assert_eq!(TraceContext::of_call(&request), None);
    let value = MetadataValue::try_from(child.to_string()).unwrap();
    request.metadata_mut().insert(TRACEPARENT, value);
    assert_eq!(TraceContext::of_call(&request), Some(child));
    request.metadata_mut().append(TRACEPARENT, MetadataValue::from_static(VALID));
    assert_eq!(TraceContext::of_call(&request), None);
}
