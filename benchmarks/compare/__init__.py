"""All meta-learners beside each other, on a robot and a walking machine: `make compare` → `docs/meta-learners.md`."""
