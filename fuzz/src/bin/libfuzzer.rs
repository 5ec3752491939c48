//! One target under libFuzzer: `RHIO_FUZZ_TARGET` names it, `RHIO_FUZZ_SEEDS` the folder that its seeds are written to.
//! `fuzz/run` builds and starts it.

#![no_main]
#![forbid(unsafe_code)]

use std::path::Path;
use std::sync::OnceLock;
use std::{env, fs};

use libfuzzer_sys::fuzz_target;
use rhio_fuzz::Target;

static TARGET: OnceLock<Target> = OnceLock::new();

fn chosen() -> Target {
    let name = env::var("RHIO_FUZZ_TARGET").unwrap_or_default();
    rhio_fuzz::target(&name).unwrap_or_else(|| panic!("RHIO_FUZZ_TARGET is {name:?}, which is no target"))
}

/// libFuzzer reads the folder afterwards.
fn write_seeds() {
    let Some(folder) = env::var_os("RHIO_FUZZ_SEEDS") else { return };
    for (number, seed) in (TARGET.get_or_init(chosen).seeds)().into_iter().enumerate() {
        let path = Path::new(&folder).join(format!("seed-{number}"));
        fs::write(&path, seed).unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
    }
}

fuzz_target!(
    init: write_seeds(),
    |input: &[u8]| (TARGET.get_or_init(chosen).run)(input)
);
