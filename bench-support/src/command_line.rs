//! How errors of the command line are answered.

use std::process::ExitCode;

use clap::error::ErrorKind;

/// Answers what clap has to say: help and version in full, an error in one sentence with status 2.
pub fn answer(program: &str, error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A closed pipe is the reader's choice, not an error.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            eprintln!("{program}: A command is missing; see {program} --help.");
            ExitCode::from(2)
        }
        _ => {
            eprintln!("{program}: {}", one_sentence(&error.to_string()));
            ExitCode::from(2)
        }
    }
}

/// clap writes a sentence, details on lines of their own, then usage and tips after an empty line.
pub fn one_sentence(message: &str) -> String {
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let first = message.split("\n\n").next().unwrap_or(message);
    let joined = first.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let mut letters = joined.trim_end_matches('.').chars();
    let capital = letters
        .next()
        .map(|letter| letter.to_ascii_uppercase())
        .unwrap_or_default();
    format!("{capital}{}; see --help.", letters.as_str())
}
