package evidence

import "context"

// Step is done with the next events.
func (a *Archiver) Step(ctx context.Context) (more bool, err error) { return a.step(ctx) }

// Encode returns the archive of these files with their manifest.
func Encode(content map[string]string) ([]byte, error) {
	f := files{}
	for name, text := range content {
		f[name] = []byte(text)
	}
	f[manifestFile] = manifest(f)
	return f.encode()
}
