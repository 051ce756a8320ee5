package workspace

import (
	"fmt"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"
)

// Isolate rewrites the configuration in a folder, a copy, so that what runs there
// touches nothing outside of it: data, keys and syncs are folders of its own, the
// warehouse is embedded, the key of pseudonyms is in the keyring, and it listens
// where nobody knows. What decides about events stays as it is. Its comments go.
func Isolate(dir string) error {
	file := filepath.Join(dir, File)
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	all := make(map[string]any)
	if err := yaml.Unmarshal(text, &all); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	for _, key := range []string{"tls", "pseudonyms", "keyring", "alerts"} {
		delete(all, key)
	}
	for key, value := range map[string]string{"listen": "127.0.0.1:0", "data": "data", "keys": "keys", "syncs": "syncs", "models": "sql"} {
		all[key] = value
	}
	within(all, "warehouse", func(warehouse map[string]any) { delete(warehouse, "bigquery") })
	within(all, "operations", func(operations map[string]any) {
		operations["listen"], operations["drain_delay"] = "127.0.0.1:0", "0s"
	})
	sources, _ := all["sources"].([]any)
	for _, s := range sources {
		if source, ok := s.(map[string]any); ok {
			delete(source, "landing") // is a choice that only BigQuery gives
		}
	}
	if text, err = yaml.Marshal(all); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, text, 0o600)
}

// within changes a member that is a mapping, and makes it if there is none.
func within(all map[string]any, key string, change func(map[string]any)) {
	member, ok := all[key].(map[string]any)
	if !ok {
		member = make(map[string]any)
		all[key] = member
	}
	change(member)
}
