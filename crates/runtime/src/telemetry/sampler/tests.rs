//! Which traces are recorded, by ratio and by parent.

use super::*;

#[test]
fn the_six_names_and_nothing_else() {
    let sampler = |name, argument| Sampler::parse(name, argument);
    assert_eq!(sampler("", "").unwrap(), Sampler::default());
    assert_eq!(sampler("parentbased_always_on", "").unwrap(), Sampler::default());
    assert!(sampler("always_off", "").unwrap().is_off());
    assert_eq!(sampler("traceidratio", "0.5").unwrap(), Sampler { parent_based: false, share: 1 << 62 });
    assert_eq!(sampler("parentbased_traceidratio", "1").unwrap(), Sampler::default());
    for wrong in ["sometimes", "parentbased_", "parentbased", "ALWAYS_ON", "jaeger_remote"] {
        assert_eq!(sampler(wrong, ""), Err(SamplerError::Name(wrong.into())));
    }
    for wrong in ["-0.1", "1.01", "NaN", "inf", "half", "1 %"] {
        assert_eq!(sampler("traceidratio", wrong), Err(SamplerError::Share(wrong.into())));
        assert_eq!(sampler("", wrong), Err(SamplerError::Share(wrong.into())));
    }
}

#[test]
fn a_parent_decides_and_else_the_share() {
    let parent = |flags| TraceContext::from_parts(7 << 64 | 9, 1, flags).unwrap();
    let none = Sampler::parse("parentbased_always_off", "").unwrap();
    assert!(none.samples(Some(&parent(1))) && !none.samples(Some(&parent(0))) && !none.samples(None));
    let all = Sampler::parse("always_on", "").unwrap();
    assert!(all.samples(Some(&parent(0))));
    let some = Sampler::parse("parentbased_traceidratio", "0.25").unwrap();
    let sampled = (0..40_000).filter(|_| some.samples(None)).count();
    assert!((9_000..11_000).contains(&sampled), "{sampled} of 40,000");
}

#[test]
fn whoever_is_asked_later_agrees_about_a_root() {
    for (name, share) in [("traceidratio", "0.01"), ("traceidratio", "1"), ("always_on", "")] {
        let sampler = Sampler::parse(name, share).unwrap();
        assert!((0..1_000).all(|_| sampler.samples(Some(&sampler.root()))), "{name} {share}");
    }
}
