//! What larson-bench and fiber-bench share beyond measuring: the machine's description, a progress bar, medians, how
//! errors of the command line are answered, where the runners are, and the form of tables and figures.

pub mod command_line;
pub mod figures;
pub mod machine;
pub mod places;
pub mod progress;
