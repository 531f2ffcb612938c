//! The meta test: the same seed twice, in two processes, must leave the same trace byte for byte.

use std::io::{self, Write as _};

use crate::{
    runner::Runner,
    trace::{FULL, first_difference},
    worker::Job,
};

/// Whether every job leaves the same trace twice.
pub(crate) async fn meta(runner: &Runner, jobs: impl Iterator<Item = Job>) -> io::Result<bool> {
    let mut held = true;
    for job in jobs {
        held &= twice(runner, &job).await?;
    }
    Ok(held)
}

async fn twice(runner: &Runner, job: &Job) -> io::Result<bool> {
    let (one, two) = tokio::join!(runner.traced(job, FULL), runner.traced(job, FULL));
    let ((verdict, one), (_, two)) = (one?, two?);
    let said = match (first_difference(&one, &two), &verdict.failure) {
        (Some((line, one, two)), _) => Err(format!("the traces part at event {line}\n  {one}\n  {two}")),
        (None, Some(failure)) => Err(format!("same trace twice, but {failure}")),
        (None, None) if one.is_empty() => Err("no trace".into()),
        (None, None) => Ok(format!("same trace twice, {} events", one.lines().count())),
    };
    let (mark, text) = match &said {
        Ok(text) => ("", text),
        Err(text) => ("FAILED: ", text),
    };
    writeln!(io::stdout(), "{} seed {}: {mark}{text}", job.scenario, job.seed)?;
    Ok(said.is_ok())
}
