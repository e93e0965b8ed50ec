//! Where the binary is.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The binary under test: `FLOTILLA_BINARY`, or else the one beside this test, brought up to date once.
pub(crate) fn path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(find)
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let manifest_directory = std::env::var_os("CARGO_MANIFEST_DIR").expect("Cargo runs this suite");
    Path::new(&manifest_directory).parent().expect("the suite lies one below the root").to_owned()
}

fn find() -> PathBuf {
    if let Some(given) = std::env::var_os("FLOTILLA_BINARY") {
        let given = PathBuf::from(given);
        assert!(given.is_file(), "FLOTILLA_BINARY={} is no file", given.display());
        return given;
    }
    // …/target/PROFILE/deps/process-HASH
    let this = std::env::current_exe().expect("a process knows its program");
    let profile_directory = this.ancestors().nth(2).expect("tests lie two below their profile's directory");
    let target_directory = profile_directory.parent().expect("profiles lie below the target directory");
    let profile = match profile_directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(name) => name,
        None => panic!("{} is no profile's directory", profile_directory.display()),
    };
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--locked", "--package", "flotilla-cmd", "--profile", profile]);
    build.arg("--target-dir").arg(target_directory).current_dir(root());
    let status = build.status().expect("cargo is there: it runs this test");
    assert!(
        status.success(),
        "`cargo build -p flotilla-cmd` failed, so there is no binary to test; mend that first, or name one by FLOTILLA_BINARY"
    );
    profile_directory.join("flotilla")
}
