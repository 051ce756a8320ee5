package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/consent/seal"
	"github.com/sluis-cdp/sluis/consent/seal/vault"
)

func keysCommand() *cli.Command {
	return &cli.Command{
		Name:  "keys",
		Usage: "make, list, rotate, encrypt and destroy the keys of a workspace",
		Description: "A key is never printed. Commands that read keys which are encrypted take the passphrase from\n" +
			"--passphrase-file or " + workspace.EnvPassphraseFile + ", else from " + workspace.EnvPassphrase + ", systemd's credential " + workspace.Credential + ",\n" +
			"or keyring.passphrase_file in " + workspace.File + ", or ask at the terminal. So do all other commands.",
		Subcommands: []*cli.Command{
			keysInitCommand(), keysListCommand(), keysRotateCommand(), keysShredCommand(), keysEncryptCommand(), keysDecryptCommand(), keysPushCommand(),
		},
	}
}

func passphraseFlag() cli.Flag {
	return &cli.StringFlag{Name: "passphrase-file", EnvVars: []string{workspace.EnvPassphraseFile}, Usage: "`FILE` with the passphrase that the keys are encrypted with"}
}

// openKeys opens a workspace and its keyring on disk.
func openKeys(c *cli.Context) (*workspace.Workspace, *seal.Folder, error) {
	w, err := openWorkspace(c)
	if err != nil {
		return nil, nil, err
	}
	if file := c.String("passphrase-file"); file != "" {
		return w, seal.OpenFolder(seal.Dir(w.Path(w.Keys)), func(context.Context) ([]byte, error) { return workspace.ReadPassphrase(file) }), nil
	}
	return w, w.KeyFolder(), nil
}

func keysInitCommand() *cli.Command {
	return &cli.Command{
		Name:  "init",
		Usage: "make the keys that are missing, such as those of a new purpose; or export what a collector needs",
		Description: "No key is ever overwritten. A secret that a keyring in use lacks is not made anew unless --add\n" +
			"names it: what was made with the old one would not fit, so restore that from its backup.\n" +
			"--edge-only DIR makes nothing: it copies to DIR what a collector on another machine may hold. With\n" +
			"those it makes pseudonyms, verifies cookies and seals; it can open nothing.",
		Flags: []cli.Flag{
			passphraseFlag(),
			&cli.StringSliceFlag{Name: "add", Usage: "also make the secret `NAME`, such as cookie, which this keyring never had"},
			&cli.StringFlag{Name: "edge-only", Usage: "export a collector's keys to the folder `DIR`"},
			&cli.StringFlag{Name: "edge-passphrase-file", Usage: "encrypt those with the passphrase in `FILE`"},
		},
		Action: func(c *cli.Context) error {
			w, folder, err := openKeys(c)
			if err != nil {
				return err
			}
			if dir := c.String("edge-only"); dir != "" {
				return exportKeys(c, w, folder, dir)
			}
			added, err := folder.Init(c.Context, w.SealPurposes(), seal.Secrets{Make: c.StringSlice("add"), Elsewhere: keptElsewhere(w)})
			sayKeys(c, "made", added)
			if err == nil && len(added) == 0 {
				fmt.Fprintln(c.App.Writer, "no key is missing")
			}
			return err
		},
	}
}

// keptElsewhere is the key of pseudonyms, where a service has it or a half of it.
func keptElsewhere(w *workspace.Workspace) []string {
	if w.Pseudonyms.IsLocal() {
		return nil
	}
	return []string{seal.KeyPseudonym}
}

func exportKeys(c *cli.Context, w *workspace.Workspace, folder *seal.Folder, dir string) error {
	to := seal.OpenFolder(seal.Dir(dir), nil)
	if file := c.String("edge-passphrase-file"); file != "" {
		phrase, err := workspace.ReadPassphrase(file)
		if err != nil {
			return err
		}
		if to, err = seal.NewEncryptedFolder(seal.Dir(dir), phrase); err != nil {
			return err
		}
	}
	names, err := folder.Export(c.Context, to, keptElsewhere(w)...)
	sayKeys(c, "exported", names)
	return err
}

func sayKeys(c *cli.Context, what string, names []string) {
	for _, name := range names {
		fmt.Fprintf(c.App.Writer, "%s %s\n", what, name)
	}
}

// listedKey is a key as `sluis keys ls` tells of it.
type listedKey struct {
	Name      string    `json:"name"`
	Kind      string    `json:"kind"`
	Purpose   string    `json:"purpose,omitempty"`
	Version   int       `json:"version"`
	State     string    `json:"state"`
	ID        string    `json:"id"`
	Created   time.Time `json:"created"`
	NeededBy  string    `json:"needed_by"`
	Encrypted bool      `json:"encrypted"`
}

// The states of a key.
const (
	keyInUse     = "in use"
	keyEarlier   = "earlier" // opens and verifies, makes nothing new
	keyDestroyed = "destroyed"
)

func keysListCommand() *cli.Command {
	return &cli.Command{
		Name:  "ls",
		Usage: "list the keys: versions, ids as in sluis.seal_keys, who needs them, whether they are encrypted; never the key",
		Flags: []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			_, folder, err := openKeys(c)
			if err != nil {
				return err
			}
			infos, err := folder.List(c.Context)
			if err != nil {
				return err
			}
			keys := listed(infos)
			if c.Bool("json") {
				return printJSON(c.App.Writer, keys)
			}
			rows := make([][]string, len(keys))
			for i, k := range keys {
				rows[i] = []string{k.Name, k.Kind, strconv.Itoa(k.Version), k.State, k.ID, k.Created.UTC().Format(time.DateTime), k.NeededBy, yesNo(k.Encrypted)}
			}
			printTable(c.App.Writer, []string{"name", "kind", "version", "state", "id", "created", "needed by", "encrypted"}, rows)
			return nil
		},
	}
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

// listed gives each key its kind and state. Of a destroyed private key the public
// half is left, and says so.
func listed(infos []seal.Info) []listedKey {
	private, halves := make(map[string]bool), false
	for _, info := range infos {
		if strings.HasSuffix(info.Key, ".private") {
			private[info.ID], halves = true, true
		}
	}
	keys := make([]listedKey, len(infos))
	for i, info := range infos {
		k := listedKey{
			Name: info.Name, Kind: "secret", Purpose: info.Purpose, Version: info.Version, State: keyEarlier, ID: info.ID,
			Created: info.Created.UTC(), NeededBy: string(info.Holders), Encrypted: info.Encrypted,
		}
		if info.Current {
			k.State = keyInUse
		}
		if info.Purpose != "" {
			k.Kind = "private"
			if strings.HasSuffix(info.Key, ".public") {
				k.Kind = "public"
				if halves && !private[info.ID] { // a collector's keyring has none
					k.State = keyDestroyed
				}
			}
		}
		keys[i] = k
	}
	return keys
}

func keysRotateCommand() *cli.Command {
	return &cli.Command{
		Name:      "rotate",
		Usage:     "make the next version of a purpose's key pair, or of the secrets cookie and edge; or rotate pseudonyms",
		ArgsUsage: "[cookie|edge]",

		Subcommands: []*cli.Command{rotatePseudonymCommand()},
		Description: "A collector takes it up at SIGHUP; until then it goes on with what it has. Earlier versions stay: they open what\n" +
			"was sealed for them, and verify the cookies that they signed, until `sluis keys shred` destroys them.\n" +
			"Collectors with a keyring of their own get the new keys by `sluis keys init --edge-only`, before they seal with them.",
		Flags: []cli.Flag{
			passphraseFlag(),
			&cli.StringSliceFlag{Name: "purpose", Usage: "the key pair of this purpose; may be given more than once"},
		},
		Action: func(c *cli.Context) error {
			purposes := c.StringSlice("purpose")
			if c.NArg() == 0 && len(purposes) == 0 {
				return usage("say what to rotate: sluis keys rotate --purpose marketing, or sluis keys rotate cookie")
			}
			w, folder, err := openKeys(c)
			if err != nil {
				return err
			}
			for _, purpose := range purposes {
				added, err := folder.RotatePurpose(c.Context, purpose)
				sayKeys(c, "made", added)
				if err != nil {
					return err
				}
			}
			for _, name := range c.Args().Slice() {
				added, err := folder.RotateSecret(c.Context, name)
				if err != nil {
					return err
				}
				sayKeys(c, "made", []string{added})
			}
			fmt.Fprintf(c.App.Writer, "A running collector takes it up at SIGHUP. Back up %s.\n", w.Path(w.Keys))
			return nil
		},
	}
}

func keysEncryptCommand() *cli.Command {
	return &cli.Command{
		Name:  "encrypt",
		Usage: "encrypt the keys on disk with a passphrase, or with another one",
		Description: "Argon2id derives a key of the passphrase, and AES-256-GCM encrypts each file with it. Files in the folder that are\n" +
			"no keys, such as the secret of a webhook, stay as they are. It may be interrupted and repeated. Blocks of the disk\n" +
			"that held the keys in clear may last: rotate the keys if somebody may have read them. Who forgets the passphrase has lost the keys.",
		Flags: []cli.Flag{
			passphraseFlag(),
			&cli.StringFlag{Name: "new-passphrase-file", Usage: "`FILE` with the passphrase to encrypt with; asked for at the terminal if not given"},
		},
		Action: func(c *cli.Context) error {
			_, folder, err := openKeys(c)
			if err != nil {
				return err
			}
			phrase, err := newPassphrase(c.String("new-passphrase-file"))
			if err != nil {
				return err
			}
			names, err := folder.Encrypt(c.Context, phrase)
			sayKeys(c, "encrypted", names)
			return err
		},
	}
}

func newPassphrase(file string) ([]byte, error) {
	if file != "" {
		return workspace.ReadPassphrase(file)
	}
	phrase, err := workspace.AskPassphrase("New passphrase: ")
	if err != nil {
		return nil, fmt.Errorf("%w; name a file with --new-passphrase-file", err)
	}
	again, err := workspace.AskPassphrase("Once more: ")
	if err != nil {
		return nil, err
	}
	if string(phrase) != string(again) {
		return nil, usage("the two passphrases differ")
	}
	return phrase, nil
}

func keysDecryptCommand() *cli.Command {
	return &cli.Command{
		Name:  "decrypt",
		Usage: "write the keys in clear again, mode 0600",
		Flags: []cli.Flag{passphraseFlag()},
		Action: func(c *cli.Context) error {
			_, folder, err := openKeys(c)
			if err != nil {
				return err
			}
			names, err := folder.Decrypt(c.Context)
			sayKeys(c, "decrypted", names)
			return err
		},
	}
}

func keysPushCommand() *cli.Command {
	return &cli.Command{
		Name:  "push",
		Usage: "copy the keys of the folder to the Vault that the configuration names (keyring.vault), where they are then read",
		Description: "Keys that are there already stay as they are. Make and rotate keys in the folder, on a machine that is kept apart, and\n" +
			"push them; give each program a token whose policy lets it read what it needs (`sluis keys ls`: needed by).",
		Flags: []cli.Flag{passphraseFlag()},
		Action: func(c *cli.Context) error {
			w, folder, err := openKeys(c)
			if err != nil {
				return err
			}
			to := w.KeyVault()
			if to == nil {
				return usage("the configuration names no Vault: set keyring.vault in %s", workspace.File)
			}
			names, err := folder.Names(c.Context)
			if err != nil {
				return err
			}
			for _, name := range names {
				key, err := folder.Key(c.Context, name)
				if err != nil {
					return err
				}
				switch err := to.Add(c.Context, name, key); {
				case errors.Is(err, vault.ErrExists):
				case err != nil:
					return err
				default:
					sayKeys(c, "pushed", []string{name})
				}
			}
			return nil
		},
	}
}
