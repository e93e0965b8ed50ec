//! The product's files of the store process.

#[path = "../../src/store/answers.rs"]
#[expect(dead_code, reason = "status pages ask for the rest")]
pub(crate) mod answers;
#[path = "../../src/store/apply.rs"]
pub(crate) mod apply;
#[path = "../../src/store/counters.rs"]
#[expect(dead_code, reason = "nobody looks at metrics here")]
pub(crate) mod counters;
#[path = "../../src/store/ending.rs"]
pub(crate) mod ending;
#[path = "../../src/store/log.rs"]
pub(crate) mod log;
#[path = "../../src/store/scheduling.rs"]
pub(crate) mod scheduling;
#[path = "../../src/store/stages.rs"]
#[expect(dead_code, reason = "nobody reads here")]
pub(crate) mod stages;
#[path = "../../src/store/turns.rs"]
pub(crate) mod turns;
