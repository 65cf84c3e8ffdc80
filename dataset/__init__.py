"""The dataset directory, known by builders, trainers and readers alike: store, transaction log, shards, views."""
