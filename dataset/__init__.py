"""The dataset directory, as builders, trainers and readers know it: store, transaction log, shards, views."""
