//! OTLP over gRPC: spans to a collector.

use std::time::Duration;

use async_trait::async_trait;
use longshore_core::time::Timestamp;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{self as wire, ResourceSpans, ScopeSpans, Status};
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request};

use super::follow::{Export, Failed};
use super::{Field, Settings, Span};

/// How long a connection, and how long an answer may take.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(10);

/// A collector.
#[derive(Debug)]
pub(crate) struct Otlp {
    client: TraceServiceClient<Channel>,
    headers: Vec<(AsciiMetadataKey, AsciiMetadataValue)>,
    resource: Resource,
}

impl Otlp {
    /// Connects when first used. `installation`: which controller it is.
    ///
    /// # Errors
    /// What is wrong with the settings.
    pub(crate) fn new(settings: &Settings, installation: &str) -> Result<Self, String> {
        let endpoint = Endpoint::from_shared(settings.endpoint.clone()).map_err(|error| error.to_string())?;
        let mut endpoint = endpoint.connect_timeout(CONNECT).timeout(ANSWER);
        if settings.endpoint.starts_with("https:") {
            let tls = match &settings.ca {
                Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
                None => ClientTlsConfig::new().with_native_roots(),
            };
            endpoint = endpoint.tls_config(tls).map_err(|error| error.to_string())?;
        }
        let mut headers = Vec::new();
        for (name, value) in &settings.headers.0 {
            let key = name.parse().map_err(|_| format!("`{name}` is no name of a header"))?;
            let mut text: AsciiMetadataValue =
                value.expose().parse().map_err(|_| format!("the value of header `{name}` cannot be sent"))?;
            text.set_sensitive(true);
            headers.push((key, text));
        }
        let about = [
            ("service.name", "longshore-controller"),
            ("service.version", env!("CARGO_PKG_VERSION")),
            ("service.instance.id", installation),
        ];
        let attributes = about.into_iter().map(|(key, value)| attribute(key, &Field::from(value))).collect();
        let resource = Resource { attributes, ..Resource::default() };
        Ok(Self { client: TraceServiceClient::new(endpoint.connect_lazy()), headers, resource })
    }
}

#[async_trait]
impl Export for Otlp {
    async fn export(&mut self, spans: &[Span]) -> Result<Option<(u64, String)>, Failed> {
        let scope = InstrumentationScope {
            name: "longshore".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let scope_spans =
            ScopeSpans { scope: Some(scope), spans: spans.iter().map(span).collect(), schema_url: String::new() };
        let resource_spans = ResourceSpans {
            resource: Some(self.resource.clone()),
            scope_spans: vec![scope_spans],
            schema_url: String::new(),
        };
        let mut request = Request::new(ExportTraceServiceRequest { resource_spans: vec![resource_spans] });
        for (name, value) in &self.headers {
            request.metadata_mut().insert(name.clone(), value.clone());
        }
        match self.client.export(request).await {
            Ok(answer) => {
                let partial = answer.into_inner().partial_success;
                Ok(partial.map(|partial| (u64::try_from(partial.rejected_spans).unwrap_or(0), partial.error_message)))
            }
            // Those that another try may answer otherwise, and those that somebody has to put right meanwhile.
            Err(status) => match status.code() {
                Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented => Err(Failed::Never(said(&status))),
                _ => Err(Failed::Later(said(&status))),
            },
        }
    }
}

fn said(status: &tonic::Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

fn nanos(at: Timestamp) -> u64 {
    u64::try_from(at.as_micros()).unwrap_or(0).saturating_mul(1_000)
}

fn attribute(key: &str, value: &Field) -> KeyValue {
    let value = match value {
        Field::Text(text) => Value::StringValue(text.clone()),
        Field::Number(number) => Value::IntValue(*number),
    };
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn span(span: &Span) -> wire::Span {
    let status = span.error.as_ref().map(|why| Status { message: why.clone(), code: StatusCode::Error.into() });
    wire::Span {
        trace_id: span.trace.bytes().to_vec(),
        span_id: span.id.bytes().to_vec(),
        parent_span_id: span.parent.map(|id| id.bytes().to_vec()).unwrap_or_default(),
        // Sampled.
        flags: 1,
        name: span.name.clone(),
        kind: if span.server { SpanKind::Server } else { SpanKind::Internal }.into(),
        start_time_unix_nano: nanos(span.began),
        end_time_unix_nano: nanos(span.ended),
        attributes: span.attributes.iter().map(|(key, value)| attribute(key, value)).collect(),
        status,
        ..wire::Span::default()
    }
}
