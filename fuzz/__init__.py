"""Coverage-guided fuzzing: `python -m fuzz TARGET`. See docs/fuzzing.md."""
