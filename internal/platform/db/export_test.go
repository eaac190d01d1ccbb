package db

// Queued is how many writes wait; tests need it to make a batch.
func Queued(d *DB) int { return len(d.queue) }
