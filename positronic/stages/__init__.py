"""The stages: collect, convert, stats, train, serve, infer. From a typed config to calls of the rooms below."""
