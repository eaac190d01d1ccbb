package lab

import (
	"context"

	"flywheel/internal/platform/db"
)

type (
	tape    struct{}
	subject struct{}
	suite   struct{}
)

const maxTaped = 1

func newTape(*db.DB, int) *tape { return nil }

// Test is.
func (s *Service) Test(ctx context.Context, req Request, progress func(Progress)) (*Report, error) {
	return nil, nil
}

// Compare is.
func (s *Service) Compare(ctx context.Context, req CompareRequest, progress func(Progress)) (*Comparison, error) {
	return nil, nil
}
