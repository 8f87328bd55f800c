package store

import "context"

// Exec runs a statement on the connection that writes, while nothing else does, so that
// tests can take room or rights from it and give them back.
func (s *Store) Exec(ctx context.Context, statement string) error {
	_, err := s.writer.sessions[0].conn.ExecContext(ctx, statement)
	return err
}
