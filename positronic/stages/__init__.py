"""The stages: collect, convert, train, serve, infer. From a typed config to calls of the rooms below."""
