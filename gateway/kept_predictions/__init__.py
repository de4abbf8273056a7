"""The prediction log: a share of what was answered, as Parquet in the artifact store (docs/prediction-log.md)."""
