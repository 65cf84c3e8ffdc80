"""The dataset directory: store, transaction log, shards. Format: docs/dataset-format.md."""
