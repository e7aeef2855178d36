//! The standard variables: what they mean, and what is refused.

use std::collections::BTreeMap;

use super::*;

fn given(variables: &[(&str, &str)]) -> Result<Option<Export>, SettingError> {
    let variables: BTreeMap<_, _> = variables.iter().copied().collect();
    parse(|name| variables.get(name).map(|value| (*value).to_owned()))
}

fn exports(variables: &[(&str, &str)]) -> Export {
    given(variables).unwrap().expect("spans are exported")
}

#[test]
fn off_unless_somebody_wants_them() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4317");
    for off in [
        &[][..],
        &[("OTEL_TRACES_EXPORTER", "none"), endpoint],
        &[("OTEL_SDK_DISABLED", "True"), endpoint, ("OTEL_TRACES_EXPORTER", "otlp")],
        &[("OTEL_TRACES_SAMPLER", "always_on")],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")],
    ] {
        assert!(given(off).unwrap().is_none(), "{off:?}");
    }
    let by_name = exports(&[("OTEL_TRACES_EXPORTER", "otlp")]);
    assert_eq!(
        (by_name.protocol, by_name.endpoint.to_string().as_str()),
        (Protocol::HttpProtobuf, "http://localhost:4318/v1/traces")
    );
    assert_eq!((by_name.queue_max, by_name.batch_max, by_name.delay.as_secs()), (2048, 512, 5));
}

#[test]
fn the_collector_is_where_the_specification_says() {
    let cases: [(&[(&str, &str)], Protocol, &str); 6] = [
        (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/")], Protocol::HttpProtobuf, "http://c:4318/v1/traces"),
        (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c/in")], Protocol::HttpProtobuf, "https://c/in/v1/traces"),
        (&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c/in")], Protocol::HttpProtobuf, "http://c/in"),
        // The port that only gRPC is spoken on.
        (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317")], Protocol::Grpc, "http://c:4317/"),
        (
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:9"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
            Protocol::Grpc,
            "http://c:9/",
        ),
        (
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:1"),
                ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://d:2/x"),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
                ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
            ],
            Protocol::HttpProtobuf,
            "http://d:2/x",
        ),
    ];
    for (variables, protocol, endpoint) in cases {
        let export = exports(variables);
        assert_eq!((export.protocol, export.endpoint.to_string().as_str()), (protocol, endpoint), "{variables:?}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_what_would() {
    let cases = [
        ("OTEL_SDK_DISABLED", "yes", "true or false"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "otlp or none"),
        ("OTEL_TRACES_SAMPLER", "half", "parentbased_traceidratio"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4317", "http://HOST:PORT"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "unix:///x", "http://HOST:PORT"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "grpc or http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "milliseconds"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "0", "milliseconds"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip", "none"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem", "SSL_CERT_FILE"),
        ("OTEL_BSP_SCHEDULE_DELAY", "-1", "milliseconds"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "1 to 1048576"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4096", "OTEL_BSP_MAX_QUEUE_SIZE"),
        ("OTEL_RESOURCE_ATTRIBUTES", "team", "key=value"),
        ("OTEL_RESOURCE_ATTRIBUTES", "team=%zz", "key=value"),
    ];
    for (variable, value, expected) in cases {
        let error = given(&[(variable, value)]).unwrap_err().to_string();
        assert!(error.starts_with(variable) && error.contains(expected), "{variable}={value}: {error}");
    }
    let share = given(&[("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "2")]).unwrap_err();
    assert!(share.to_string().contains("from 0 to 1"), "{share}");
}

#[test]
fn secrets_are_not_shown() {
    let variable = "OTEL_EXPORTER_OTLP_HEADERS";
    let export = exports(&[("OTEL_TRACES_EXPORTER", "otlp"), (variable, "api-key=se%2Ccret, x=y")]);
    assert_eq!(export.headers["api-key"], "se,cret");
    let refused = given(&[(variable, "ok=1,bad key=secret")]).unwrap_err();
    let user = given(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://me:secret@c")]).unwrap_err();
    for shown in [format!("{export:?}"), refused.to_string(), user.to_string()] {
        assert!(!shown.contains("cret"), "{shown}");
    }
    assert!(refused.to_string().contains("entry 2"), "{refused}");
}

#[test]
fn the_resource_is_given_by_attributes_and_a_name() {
    let export = exports(&[
        ("OTEL_TRACES_EXPORTER", "otlp"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=pro%20d, service.name=a"),
        ("OTEL_SERVICE_NAME", "b"),
    ]);
    let pairs: Vec<_> = export.resource.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let expected = [("deployment.environment.name", "pro d"), ("service.name", "a"), ("service.name", "b")];
    assert_eq!(pairs, expected);
}
