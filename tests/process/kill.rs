//! Processes are killed while clients write.
