package file

import "context"

// store is where the files are. They lie in directories one deep; the directory ""
// is the one that holds these. Calls are never concurrent.
//
// At any moment, also after a power cut or a kill, a file is as it was before a
// call, or as the call makes it, whole.
type store interface {
	// dirs names the directories that there are.
	dirs(ctx context.Context) ([]string, error)
	// names names the files of a directory, those half written too. There are none
	// of a directory that is not there.
	names(ctx context.Context, dir string) ([]string, error)
	// read returns what a file holds. What is not there is [fs.ErrNotExist].
	read(ctx context.Context, dir, name string) ([]byte, error)
	// create makes a file, unless there is one of that name, and tells whether it did.
	create(ctx context.Context, dir, name string, content []byte) (created bool, err error)
	// replace makes a file, whatever there is.
	replace(ctx context.Context, dir, name string, content []byte) error
	// remove takes a file away. One that is not there is success.
	remove(ctx context.Context, dir, name string) error
	// tidy takes away what of a directory's files was written aside and never named,
	// and what they held before they were replaced.
	tidy(ctx context.Context, dir string) error
	close() error
}
