package config

import (
	"log/slog"
	"net"

	"flywheel/internal/platform/fault"
)

// Settings are the top-level settings of every home.
type Settings struct {
	// Listen is the address of the server, on loopback unless a person says otherwise.
	Listen string `yaml:"listen"`
	// Hosts are more names by which the server may be called.
	Hosts []string `yaml:"hosts"`
	Log   Log      `yaml:"log"`
	// Providers are remote services by name.
	Providers map[string]Provider `yaml:"providers"`
	Models    Models              `yaml:"models"`
}

// Log says what is logged and how.
type Log struct {
	Level  slog.Level `yaml:"level"`
	Format string     `yaml:"format"` // text or json
}

// Provider is a remote service with a key.
type Provider struct {
	BaseURL string `yaml:"base_url"`
	// APIKey is the key itself; APIKeyEnv names the environment variable that holds it.
	APIKey    Secret `yaml:"api_key"`
	APIKeyEnv string `yaml:"api_key_env"`
	// Form is how models of the provider are asked for actions, when it cannot be found by probing.
	Form string `yaml:"form"`
}

// Key is the key of the provider, "" when there is none.
func (p Provider) Key(getenv func(string) string) Secret {
	if p.APIKey != "" || p.APIKeyEnv == "" {
		return p.APIKey
	}
	return Secret(getenv(p.APIKeyEnv))
}

// Models says where downloaded models are kept.
type Models struct {
	// Cache is a directory that all homes of a person share; empty: FLYWHEEL_CACHE, or flywheel in the
	// user's cache directory.
	Cache string `yaml:"cache"`
	// Threads of a model server on this machine; 0: one less than there are processors.
	Threads int `yaml:"threads"`
	// Context is how many tokens a local model sees at once; 0: 4096.
	Context int `yaml:"context"`
}

// Default are the settings of a home that has no file.
func Default() *Settings {
	return &Settings{
		Listen: "127.0.0.1:7700",
		Log:    Log{Level: slog.LevelInfo, Format: "text"},
	}
}

// Validate finds values that fit their type and yet cannot work.
func (s *Settings) Validate() error {
	if _, _, err := net.SplitHostPort(s.Listen); err != nil {
		return fault.New(fault.Invalid, "config.listen", "listen: %q is not host:port", s.Listen).WithHint("listen: 127.0.0.1:7700")
	}
	if s.Log.Format != "text" && s.Log.Format != "json" {
		return fault.New(fault.Invalid, "config.log_format", "log.format: %q is neither text nor json", s.Log.Format)
	}
	for name, p := range s.Providers {
		if p.APIKey != "" && p.APIKeyEnv != "" {
			return fault.New(fault.Invalid, "config.provider", "providers.%s has both api_key and api_key_env", name)
		}
	}
	return nil
}
