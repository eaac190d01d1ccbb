package cli

import (
	"log/slog"

	"github.com/spf13/cobra"
)

func (s *shell) upCommand() *cobra.Command {
	var listen string
	c := &cobra.Command{
		Use: "up", Short: "Run the server", Args: cobra.NoArgs,
		Long: "Run the server of a home until Ctrl-C. It prints its address and a link that signs a browser in once.\n" +
			"While it runs, every other command on the same home talks to it.",
		Example:     "  flywheel up --listen 127.0.0.1:7700",
		Annotations: map[string]string{stageKey: "0"},
		RunE:        func(cmd *cobra.Command, _ []string) error { return s.up(cmd, listen) },
	}
	c.Flags().StringVar(&listen, "listen", "", "address (default 127.0.0.1:7700; port 0 takes a free one)")
	return c
}

func (s *shell) up(cmd *cobra.Command, listen string) error {
	home, err := s.homeDir()
	if err != nil {
		return err
	}
	flags := map[string]string{}
	if listen != "" {
		flags["listen"] = listen
	}
	o, err := s.options(home, flags, false)
	if err != nil {
		return err
	}
	l, _, err := s.takeHome(cmd.Context(), home, true)
	if err != nil {
		return err
	}
	defer l.release()
	return s.app.Serve(cmd.Context(), o, func(at Listening) {
		if err := l.serving(at.URL, s.app.Version()); err != nil {
			o.Log.Error("other commands cannot find this server", slog.Any("error", err))
		}
		if s.json {
			s.printJSON(map[string]any{"url": at.URL, "link": at.Link, "home": home, "pid": s.PID})
			return
		}
		s.printf("%s\n\n", s.paint(s.StdoutTTY, bold, "Flywheel "+s.app.Version()+" is running."))
		s.printf("  Address   %s\n  Sign in   %s   (once, within ten minutes; flywheel login makes another)\n  Data      %s\n\nCtrl-C stops it.\n",
			at.URL, at.Link, home)
	})
}
