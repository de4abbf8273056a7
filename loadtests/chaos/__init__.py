"""What processes that come, go and are killed cost the callers."""
