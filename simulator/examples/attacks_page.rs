//! Writes `docs/attacks.md` from the table of attacks.

fn main() -> std::io::Result<()> {
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/attacks.md"), testudo_simulator::attacks::page())
}
