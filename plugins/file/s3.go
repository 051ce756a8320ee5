package file

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/s3utils"
)

// s3Tries is how often a request is made. The host sends a batch again, too.
const s3Tries = 3

// s3Config is where a bucket is, and as whom to use it. Nothing is taken from the
// environment or from a machine's role.
type s3Config struct {
	endpoint           *url.URL
	bucket, prefix     string
	region             string
	virtualHost        bool
	key, secret, token string
	roots              *x509.CertPool // nil are the system's
}

// s3Store is the objects of a bucket below a prefix. An object is put in one
// request: the batches of a host are of a few megabytes, so nothing is ever uploaded
// in parts that could be left behind.
type s3Store struct {
	client         *minio.Client
	bucket, prefix string
	// unconditional: the server has no conditional writes.
	unconditional bool
}

func (c s3Config) open() (store, error) {
	transport, err := minio.DefaultTransport(c.endpoint.Scheme == "https")
	if err != nil {
		return nil, err
	}
	if c.roots != nil {
		transport.TLSClientConfig = &tls.Config{RootCAs: c.roots, MinVersion: tls.VersionTLS12}
	}
	region := c.region
	if region == "" {
		region = s3utils.GetRegionFromURL(*c.endpoint)
	}
	if region == "" {
		region = "us-east-1"
	}
	lookup := minio.BucketLookupPath
	if c.virtualHost {
		lookup = minio.BucketLookupDNS
	}
	client, err := minio.New(c.endpoint.Host, &minio.Options{
		Creds: credentials.NewStaticV4(c.key, c.secret, c.token), Secure: c.endpoint.Scheme == "https",
		Transport: transport, Region: region, BucketLookup: lookup, MaxRetries: s3Tries,
		TrailingHeaders: true, // else the client refuses checksums; put sends them ahead, though
	})
	if err != nil {
		return nil, wrong("endpoint", "is no server's URL")
	}
	client.SetS3EnableDualstack(false) // the host that is named, and no other
	return &s3Store{client: client, bucket: c.bucket, prefix: c.prefix}, nil
}

func (s *s3Store) close() error { return nil }

// key is an object's; of the directory "" and the name "" it is the prefix.
func (s *s3Store) key(dir, name string) string {
	key := path.Join(s.prefix, dir)
	if key == "" {
		return name
	}
	return key + "/" + name
}

func (s *s3Store) dirs(ctx context.Context) ([]string, error) {
	return s.list(ctx, s.key("", ""), true)
}

func (s *s3Store) names(ctx context.Context, dir string) ([]string, error) {
	return s.list(ctx, s.key(dir, ""), false)
}

// list names what is directly below a prefix: prefixes, or objects.
func (s *s3Store) list(ctx context.Context, below string, dirs bool) ([]string, error) {
	var names []string
	for object := range s.client.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: below}) {
		if object.Err != nil {
			return nil, s3Error("list the bucket", object.Err)
		}
		name, isDir := strings.CutSuffix(strings.TrimPrefix(object.Key, below), "/")
		if isDir == dirs && name != "" {
			names = append(names, name)
		}
	}
	return names, nil
}

func (s *s3Store) read(ctx context.Context, dir, name string) ([]byte, error) {
	object, err := s.client.GetObject(ctx, s.bucket, s.key(dir, name), minio.GetObjectOptions{})
	if err != nil {
		return nil, s3Error("get an object", err)
	}
	defer object.Close() //nolint:errcheck // only read
	content, err := io.ReadAll(object)
	if minio.ToErrorResponse(err).Code == minio.NoSuchKey {
		return nil, fs.ErrNotExist
	}
	return content, s3Error("get an object", err)
}

// create is a conditional write (If-None-Match: *). Of a server that has none it
// asks whether the object is there, which does the same as long as one process at a
// time writes a run.
func (s *s3Store) create(ctx context.Context, dir, name string, content []byte) (bool, error) {
	if !s.unconditional {
		var options minio.PutObjectOptions
		options.SetMatchETagExcept("*")
		err := s.put(ctx, s.key(dir, name), content, options)
		switch response := minio.ToErrorResponse(err); {
		case err == nil:
			return true, nil
		case response.StatusCode == http.StatusPreconditionFailed:
			return false, nil
		case response.StatusCode != http.StatusNotImplemented:
			return false, s3Error("put an object", err)
		}
		s.unconditional = true
	}
	_, err := s.client.StatObject(ctx, s.bucket, s.key(dir, name), minio.StatObjectOptions{})
	if err == nil {
		return false, nil
	}
	if minio.ToErrorResponse(err).StatusCode != http.StatusNotFound {
		return false, s3Error("look for an object", err)
	}
	return true, s.replace(ctx, dir, name, content)
}

func (s *s3Store) replace(ctx context.Context, dir, name string, content []byte) error {
	return s3Error("put an object", s.put(ctx, s.key(dir, name), content, minio.PutObjectOptions{}))
}

func (s *s3Store) put(ctx context.Context, key string, content []byte, options minio.PutObjectOptions) error {
	sum := sha256.Sum256(content)
	options.UserMetadata = map[string]string{"x-amz-checksum-sha256": base64.StdEncoding.EncodeToString(sum[:])}
	options.DisableMultipart = true
	_, err := s.client.PutObject(ctx, s.bucket, key, bytes.NewReader(content), int64(len(content)), options)
	return err
}

func (s *s3Store) remove(ctx context.Context, dir, name string) error {
	return s3Error("delete an object", s.client.RemoveObject(ctx, s.bucket, s.key(dir, name), minio.RemoveObjectOptions{}))
}

// tidy deletes the versions that a bucket with versions has kept, and then the marks
// of deletions, which without versions below them say nothing. In the reverse order what
// was deleted would be back for a moment.
func (s *s3Store) tidy(ctx context.Context, dir string) error {
	below := s.key(dir, "")
	if dir == "" {
		below = s.key("", ".") // of the directory's own files only
	}
	var old, marks []minio.ObjectInfo
	for version := range s.client.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: below, WithVersions: true, Recursive: true}) {
		switch {
		case version.Err != nil && noVersions(version.Err):
			return nil
		case version.Err != nil:
			return s3Error("list the versions of objects, which have to go when somebody is erased", version.Err)
		case !version.IsLatest:
			old = append(old, version)
		case version.IsDeleteMarker:
			marks = append(marks, version)
		}
	}
	for _, version := range append(old, marks...) {
		if err := s.client.RemoveObject(ctx, s.bucket, version.Key, minio.RemoveObjectOptions{VersionID: version.VersionID}); err != nil {
			return s3Error("delete an old version of an object", err)
		}
	}
	return nil
}

// noVersions tells whether a server refuses to list versions because it never has any.
func noVersions(err error) bool {
	response := minio.ToErrorResponse(err)
	return response.StatusCode == http.StatusNotImplemented || response.Code == "VersioningNotConfigured"
}

// s3Error is what a server said, by its code, and what to do about it. Its message
// is not repeated: it is the server's, and may quote.
func s3Error(doing string, err error) error {
	if err == nil {
		return nil
	}
	if ctx := contextError(err); ctx != nil {
		return fmt.Errorf("%s: %w", doing, ctx)
	}
	response := minio.ToErrorResponse(err)
	if response.StatusCode == 0 {
		return fmt.Errorf("%s: reach the server: %w", doing, withoutURL(err))
	}
	remedy := map[string]string{
		"AccessDenied":          ": allow the access key s3:ListBucket, s3:ListBucketVersions, s3:GetObject, s3:PutObject, s3:DeleteObject and s3:DeleteObjectVersion",
		"InvalidAccessKeyId":    ": correct access_key_id",
		"SignatureDoesNotMatch": ": correct secret_access_key, or region",
		"NoSuchBucket":          ": make the bucket, or correct url",
		"RequestTimeTooSkewed":  ": set this machine's clock",
	}[response.Code]
	return fmt.Errorf("%s: the server answered %d %s%s", doing, response.StatusCode, safeCode(response.Code), remedy)
}

// safeCode is a code as S3 has them: letters and digits.
func safeCode(code string) string {
	for _, r := range code {
		if (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
			return "with no code"
		}
	}
	return code
}

func contextError(err error) error {
	for _, ended := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, ended) {
			return ended
		}
	}
	return nil
}

// withoutURL is the error of a request less its URL, which the configuration has.
func withoutURL(err error) error {
	if request, ok := errors.AsType[*url.Error](err); ok {
		return request.Err
	}
	return err
}
