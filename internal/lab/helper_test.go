package lab

import "flywheel/spec"

type specChoice = spec.ModelChoice
