//! The manifest: what is taken can be written and is read back the same; it matches exactly the members that it lists.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xbpipe::stream::{Manifest, Received};

fuzz_target!(|json: &[u8]| {
    match Manifest::parse(json) {
        Err(error) => assert!(!error.to_string().contains(char::is_control), "{error:?}"),
        Ok(manifest) => {
            let again = Manifest::parse(&manifest.encode()).unwrap();
            let set = |m: &Manifest| m.gtid_executed.as_deref().map(|s| s.trim().to_owned());
            assert_eq!(set(&again), set(&manifest));
            assert_eq!(Manifest { gtid_executed: manifest.gtid_executed.clone(), ..again }, manifest);
            let mut received: Received =
                manifest.members.iter().map(|m| (m.name.clone(), (m.size, m.digest))).collect();
            manifest.verify(&received).unwrap();
            if received.pop_first().is_some() {
                manifest.verify(&received).unwrap_err();
            }
        }
    }
});
