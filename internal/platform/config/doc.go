// Package config reads settings from config.yaml of the home, then the environment, then flags; the
// later wins, and every value remembers where it came from. It knows no setting of its own accord:
// whoever has settings registers a struct with defaults in it as a Section.
//
// A field is named by its yaml tag, and an environment variable by its path: log.level is
// FLYWHEEL_LOG_LEVEL, and in a map providers.work.base_url is FLYWHEEL_PROVIDERS_WORK_BASE_URL.
// Unknown keys are errors, and all errors are reported at once as file:line:column.
package config
