package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/collector/metrics"
	"github.com/sluis-cdp/sluis/consent/seal"
	"github.com/sluis-cdp/sluis/consent/seal/remote"
)

const serviceText = `Holds the key of pseudonyms, or half of it, on a machine of its own, and evaluates what collectors send. It sees blinded
elements alone: neither an identifier nor a pseudonym. Its keys are those of the workspace:

  1. sluis pseudonym-service certs --dir tls --host pseudonyms.internal --collector shop-1
  2. remote mode: move keys/pseudonym from the collector to the folder --keys of this machine.
     split mode:  sluis pseudonym-service split, then move keys/pseudonym.service, and take keys/pseudonym away from both.
     Pseudonyms stay what they are in either mode. Keep a backup of the moved key, apart.
  3. sluis pseudonym-service --keys keys --ca tls/ca.pem --certificate tls/service.pem --key tls/service.key --listen :8486
  4. at the collector: pseudonyms in sluis.yaml, with shop-1.pem and shop-1.key, and the public key that the service prints.

Who is answered is who has a certificate of --ca for a client, named by its first DNS name, or else its common name; --collector
allows some of them only. Limits are for each collector by itself: they are how fast a stolen one can guess. Beyond them it is
answered 429, counted, and logged once a minute. SIGTERM drains.`

func pseudonymServiceCommand() *cli.Command {
	return &cli.Command{
		Name:        "pseudonym-service",
		Usage:       "holds the key of pseudonyms apart from collectors, which then cannot be used to guess offline",
		Description: serviceText,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "listen", Value: "127.0.0.1:8486", EnvVars: []string{"SLUIS_PSEUDONYM_LISTEN"}, Usage: "`ADDRESS` for collectors, over mutual TLS"},
			&cli.StringFlag{Name: "operations-listen", Value: "127.0.0.1:8487", Usage: "`ADDRESS` of /metrics and /healthz, without TLS; empty for none"},
			keysFlag(), passphraseFlag(),
			&cli.StringFlag{Name: "ca", Value: "tls/ca.pem", Usage: "`FILE` of who signs collectors' certificates"},
			&cli.StringFlag{Name: "certificate", Value: "tls/service.pem", Usage: "`FILE` of the service's certificate"},
			&cli.StringFlag{Name: "key", Value: "tls/service.key", Usage: "`FILE` of its key"},
			&cli.StringSliceFlag{Name: "collector", Usage: "`NAME` that may ask; repeat it. None lets all with a certificate"},
			&cli.Float64Flag{Name: "rate", Value: 2000, Usage: "elements a second of one collector; 0 is no bound"},
			&cli.IntFlag{Name: "burst", Value: 20_000, Usage: "elements at once after a time of silence; at least 4096"},
			&cli.Int64Flag{Name: "quota", Usage: "elements a day (UTC) of one collector; 0 is no bound"},
		},
		Subcommands: []*cli.Command{certsCommand(), splitCommand(), publicKeyCommand()},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usage("there is no command %q here", c.Args().First())
			}
			return runPseudonymService(c)
		},
	}
}

func keysFlag() cli.Flag {
	return &cli.StringFlag{Name: "keys", Value: "keys", Usage: "`FOLDER` of the keyring"}
}

// folderAt is a keyring that belongs to no workspace. Its passphrase, if it has one,
// is in the file of the flag, or is asked for.
func folderAt(c *cli.Context, dir string) *seal.Folder {
	file := c.String("passphrase-file")
	return seal.OpenFolder(seal.Dir(dir), func(context.Context) ([]byte, error) {
		if file != "" {
			return workspace.ReadPassphrase(file)
		}
		return workspace.AskPassphrase("Passphrase of " + dir + ": ")
	})
}

func certsCommand() *cli.Command {
	return &cli.Command{
		Name:  "certs",
		Usage: "makes an authority, and certificates of the service and of collectors; overwrites nothing",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "dir", Value: "tls", Usage: "`FOLDER` for them; ca.key is needed for further ones, and belongs elsewhere afterwards"},
			&cli.StringSliceFlag{Name: "host", Usage: "name or address of the service, as collectors reach it; repeat it"},
			&cli.StringSliceFlag{Name: "collector", Usage: "`NAME` of a collector; repeat it"},
		},
		Action: func(c *cli.Context) error {
			hosts, collectors := c.StringSlice("host"), c.StringSlice("collector")
			if len(hosts)+len(collectors) == 0 {
				return usage("name a --host of the service, or a --collector")
			}
			made, err := remote.MakeCertificates(c.String("dir"), hosts, collectors, time.Now())
			for _, file := range made {
				fmt.Fprintln(c.App.Writer, file)
			}
			return err
		},
	}
}

func splitCommand() *cli.Command {
	return &cli.Command{
		Name:  "split",
		Usage: "makes the halves of the key for split mode: pseudonyms stay what they are",
		Flags: []cli.Flag{keysFlag(), passphraseFlag(), &cli.IntFlag{Name: "version", Value: 1, Usage: "of the key"}},
		Action: func(c *cli.Context) error {
			keys, version := folderAt(c, c.String("keys")), c.Int("version")
			edge, service, err := seal.SplitKey(c.Context, keys, version)
			if err != nil {
				return err
			}
			if err := errors.Join(keys.Add(c.Context, seal.Version(seal.KeyPseudonymEdge, version), edge), keys.Add(c.Context, seal.Version(seal.KeyPseudonymService, version), service)); err != nil {
				return err
			}
			fmt.Fprintf(c.App.Writer, "%[1]s/%[2]s stays at the collector.\nMove %[1]s/%[3]s to the service.\n"+
				"Then move %[1]s/%[4]s to where backups of keys are: with it here, the halves protect nothing.\n",
				c.String("keys"), seal.Version(seal.KeyPseudonymEdge, version), seal.Version(seal.KeyPseudonymService, version), seal.Version(seal.KeyPseudonym, version))
			return nil
		},
	}
}

func publicKeyCommand() *cli.Command {
	return &cli.Command{
		Name:  "public-key",
		Usage: "prints what collectors pin as pseudonyms.public_key",
		Flags: []cli.Flag{keysFlag(), passphraseFlag()},
		Action: func(c *cli.Context) error {
			holder, err := seal.NewKeyHolder(c.Context, folderAt(c, c.String("keys")))
			if err != nil {
				return err
			}
			for _, version := range holder.Versions() {
				fmt.Fprintf(c.App.Writer, "%s  # version %d\n", publicKey(holder, version), version)
			}
			return nil
		},
	}
}

func publicKey(holder *seal.KeyHolder, version int) string {
	return base64.StdEncoding.EncodeToString(holder.PublicKey(version))
}

// runPseudonymService serves until it is told to end.
func runPseudonymService(c *cli.Context) error {
	ctx, logger := c.Context, newLogger(c)
	holder, err := seal.NewKeyHolder(ctx, folderAt(c, c.String("keys")))
	if err != nil {
		return err
	}
	tls, err := remote.Files{CA: c.String("ca"), Certificate: c.String("certificate"), Key: c.String("key")}.ServerTLS()
	if err != nil {
		return err
	}
	measured := metrics.NewService(len(holder.Versions()))
	server := remote.NewServer(remote.ServerConfig{
		Keys: holder, Collectors: c.StringSlice("collector"), Observer: measured, Logger: logger,
		Limits: remote.Limits{Rate: c.Float64("rate"), Burst: c.Int("burst"), Daily: c.Int64("quota")},
	}).HTTP()
	server.TLSConfig = tls
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", c.String("listen"))
	if err != nil {
		return fmt.Errorf("listening for collectors: %w; choose another address with --listen", err)
	}
	end, err := serveOperations(ctx, c.String("operations-listen"), measured.Handler(), logger)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	for _, version := range holder.Versions() {
		logger.Info("a key is held", "version", version, "public_key", publicKey(holder, version))
	}
	logger.Info("the pseudonym service answers", "url", "https://"+listener.Addr().String())
	return errors.Join(serveUntilDone(ctx, server, listener, logger), end())
}

// serveUntilDone drains when ctx is done: what was asked is answered.
func serveUntilDone(ctx context.Context, server *http.Server, listener net.Listener, logger *slog.Logger) error {
	failed := make(chan error, 1)
	go func() { failed <- server.ServeTLS(listener, "", "") }()
	select {
	case err := <-failed:
		return fmt.Errorf("serving collectors: %w", err)
	case <-ctx.Done():
	}
	logger.Info("draining")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		logger.Warn("not all requests could be answered before the deadline")
		return server.Close()
	}
	return nil
}

// serveOperations serves metrics and health from when it returns.
func serveOperations(ctx context.Context, address string, measured http.Handler, logger *slog.Logger) (end func() error, err error) {
	if address == "" {
		return func() error { return nil }, nil
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", measured)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listening for operations: %w; choose another address with --operations-listen", err)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 90 * time.Second, MaxHeaderBytes: 16 << 10}
	go func() { _ = server.Serve(listener) }() // it ends by Close
	logger.Info("metrics and health", "url", "http://"+listener.Addr().String())
	return server.Close, nil
}
