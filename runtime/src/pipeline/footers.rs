//! Columns of Parquet sources that the pipeline does not declare: the files say them.

use super::problems::code;
use super::spec::{PipelineSpec, SourceSpec};
use crate::error::{Diagnostic, Spanned};
use crate::format::Format;
use crate::source::{self, SourceKind};

/// Gives Parquet sources without a `schema` that of their files. What hinders it is told.
pub(super) fn add_schemas(spec: &mut PipelineSpec) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    for source in &mut spec.sources {
        let SourceKind::File { path, .. } = &source.kind.value else { continue };
        if source.schema.is_some() || source.format.as_ref().is_none_or(|format| format.value != Format::Parquet) {
            continue;
        }
        match source::parquet_schema(&source.name.value, path, &spec.base) {
            Ok(schema) => source.schema = Some(Spanned::new(schema, source.kind.span)),
            Err(error) => diagnostics.push(unknown(source, &error)),
        }
    }
    diagnostics
}

fn unknown(source: &SourceSpec, error: &source::SourceError) -> Diagnostic {
    Diagnostic {
        code: code::SCHEMA_NEEDED,
        message: error.to_string(),
        span: source.kind.span,
        label: "the files were to say the columns".to_owned(),
        help: Some(format!(
            "write a `schema` of the columns to read to [source.{}], or correct the files",
            source.name.value
        )),
    }
}
