"""The workspace: manifests, Parquet tables, tensor shards, atomic writes."""
