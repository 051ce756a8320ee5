//go:build s3

package file

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/file/s3test"
)

var s3Once = sync.OnceValues(func() (*s3test.Server, error) { return s3test.Start(context.Background()) })

// The suite of all targets has the real server, too.
func init() {
	targets = append(targets, target{"s3", func(t *testing.T) (map[string]string, string) {
		config, dir := bucket(t)
		return config, filepath.Join(dir, "out")
	}})
	stops = append(stops, func() error {
		server, err := s3Once()
		if err != nil {
			return err
		}
		return server.Stop()
	})
}

var buckets atomic.Int64

// bucket makes a bucket, and the directory of a prefix in it.
func bucket(t *testing.T) (config map[string]string, dir string) {
	t.Helper()
	server, err := s3Once()
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("bucket-%d", buckets.Add(1))
	if err := server.MakeBucket(name); err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(server.Root, name)
	if err := os.Mkdir(filepath.Join(dir, "out"), 0o700); err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"url": "s3://" + name + "/out", "endpoint": server.Endpoint, "tls_ca": server.CA,
		"access_key_id": s3test.AccessKeyID, "secret_access_key": s3test.SecretAccessKey,
	}, dir
}

// In a bucket with versions nothing of who was erased is left in the older ones.
func TestErasedLeaveOldVersions(t *testing.T) {
	config, _ := bucket(t)
	server, err := s3Once()
	if err != nil {
		t.Fatal(err)
	}
	http, err := server.Client()
	if err != nil {
		t.Fatal(err)
	}
	client, err := minio.New(strings.TrimPrefix(server.Endpoint, "https://"), &minio.Options{
		Creds: credentials.NewStaticV4(s3test.AccessKeyID, s3test.SecretAccessKey, ""), Secure: true, Transport: http.Transport, Region: "us-east-1",
	})
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimSuffix(strings.TrimPrefix(config["url"], "s3://"), "/out")
	if err := client.EnableVersioning(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	d := opened(t, config)
	mustWrite(t, d, historyBatch("r1", "b1"))
	mustClose(t, d)
	d = opened(t, config)
	mustWrite(t, d, destination.Batch{ID: "b2", Run: "r2", Columns: historyBatch("", "").Columns, Changes: []destination.Change{
		{ID: "x", Key: "key-7", Op: destination.Remove, PriorityReason: erased, Values: []any{nil}},
	}})
	mustClose(t, d)
	for version := range client.ListObjectsIter(t.Context(), name, minio.ListObjectsOptions{WithVersions: true, Recursive: true}) {
		if version.Err != nil || !version.IsLatest || version.IsDeleteMarker {
			t.Errorf("%s has a version that is not the latest, or a mark: %v", version.Key, version.Err)
		}
	}
	for _, dir := range []string{filepath.Join(server.Root, name), server.Versions(name)} {
		for file, content := range tree(t, dir) {
			if strings.Contains(content, "b1.7@example.test") {
				t.Errorf("%s has the values of who was erased", file)
			}
		}
	}
}

// What is refused says which field to mend, and repeats no value of it.
func TestS3Refuses(t *testing.T) {
	for name, tt := range map[string]struct{ field, value, says string }{
		"no such key":    {"access_key_id", "hunter2", "XAdminUserNotFound"},
		"wrong secret":   {"secret_access_key", "hunter2", "correct secret_access_key"},
		"no such bucket": {"url", "s3://hunter2-bucket/out", "make the bucket"},
		"unknown CA":     {"tls_ca", "", "certificate"},
		"nobody there":   {"endpoint", "https://127.0.0.1:1", "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			config, _ := bucket(t)
			config[tt.field] = tt.value
			err := New().Open(t.Context(), config)
			if err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("err = %v", err)
			}
		})
	}
}
