//! Where the component of a capsule is: the file that it was read from, or, once that has been built anew, the checkpoint store
//! of its pipeline, which keeps the versions that have run.

use std::path::{Path, PathBuf};

use millstream::capsule::Capsule;
use millstream::control::open_store;
use millstream::wasm::{Component, Digest, Sandbox};

use crate::failure::Failure;

/// The component that failed, looked for in its file, then in the store of the pipeline that `pipeline` describes, or else of
/// the file that the capsule names.
pub(super) fn that_failed(capsule: &Capsule, pipeline: Option<&Path>, sandbox: &Sandbox) -> Result<Component, Failure> {
    let facts = &capsule.facts;
    let (file, digest) = (Path::new(&facts.component.file), &facts.component.digest);
    let mut looked = Vec::new();
    match std::fs::read(file) {
        Ok(bytes) if Digest::of(&bytes).to_string() == *digest => return Ok(sandbox.load(file)?),
        Ok(bytes) => looked.push(format!("{} (is {} now)", file.display(), Digest::of(&bytes).short())),
        Err(error) => looked.push(format!("{} ({error})", file.display())),
    }
    let named = facts.pipeline_file.as_ref().map(PathBuf::from);
    match pipeline.map(Path::to_owned).or(named) {
        None => looked.push("the capsule names no pipeline file, and so no checkpoint store".to_owned()),
        Some(pipeline) => match from_store(&pipeline, digest) {
            Ok(bytes) => return Ok(sandbox.load_bytes(&facts.component.file, &bytes)?),
            Err(reason) => looked.push(reason),
        },
    }
    let short = digest.get(..12).unwrap_or(digest);
    Err(Failure::Usage(format!(
        "the component that failed ({short}) is nowhere to be found; looked in {}; name its pipeline with --pipeline, give a \
         copy of it, or another one knowingly, with --component",
        looked.join("; ")
    )))
}

/// The component from the checkpoint store of a pipeline, or where it was looked for.
fn from_store(pipeline: &Path, digest: &str) -> Result<Vec<u8>, String> {
    let shown = pipeline.display();
    let spec = millstream::pipeline::read(pipeline)
        .map_err(|error| format!("the checkpoint store of {shown}, which cannot be read ({})", first_line(&error)))?;
    let Some(checkpoint) = &spec.checkpoint else { return Err(format!("{shown}, which names no checkpoint store")) };
    let failed = |error: &dyn std::fmt::Display| format!("the checkpoint store of {shown} ({error})");
    let store = open_store(&spec, checkpoint).map_err(|error| failed(&error))?;
    let runtime = crate::command::runtime().map_err(|error| failed(&error))?;
    runtime.block_on(store.component(digest)).map_err(|error| failed(&error))
}

fn first_line(error: &impl std::fmt::Display) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
