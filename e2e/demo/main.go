// Command demo shows in a few seconds what lodge does: it signs an OpenVEX statement about
// openssl and lodges it in a real Rekor v2 log and a real OCI registry, both started here,
// again and again, and counts what is there. Run it by `make demo`.
//
// What it needs is built from the module proxy; it keeps nothing but that.
package main

import (
	"context"
	"crypto/elliptic"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/lodgehq/lodge/e2e/servers"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(servers.Main(&stage{ctx: ctx, play: play}))
}

// scene is the stage with everything that runs on it.
type scene struct {
	*stage
	lodge    *servers.Lodge
	log      *servers.RekorV2
	logURL   string
	registry *servers.Registry
	image    string // digest
	dir      string // of the files that the commands name
}

const repository = "web"

func play(s *stage) {
	d := &scene{stage: s}
	d.start()
	d.files()

	d.say("Sign the statement. The same statement and key always give the same bytes.")
	d.write("vex.dsse.json", d.command("sign", "vex.json", "--key", "key.pem").Stdout)

	d.say("Lodge it in the log and, for the image that it is about, in the registry.")
	d.print(d.command(d.push()...))
	d.count()

	d.say("Once more. It is there already, so nothing is sent.")
	d.print(d.command(d.push()...))
	d.count()

	d.say("Once more from an empty store, as every CI job has. lodge looks before it sends.")
	d.lodge = d.lodge.Fresh()
	d.print(d.command(d.push()...))
	d.count()
	key := d.same()

	d.say("Take the proof and verify it, as anybody can without the log and the registry.")
	d.log.Stop()
	d.registry.Stop()
	d.write("bundle.json", d.command("bundle", key).Stdout)
	d.print(d.command("verify", "bundle.json", "--key", "key.pub", "--log-key", "log.pub", "--log-origin", d.log.Origin))
	d.say("Three pushes, one log entry, one artifact.")
}

// start builds and starts everything.
func (d *scene) start() {
	d.Logf("building lodge")
	d.lodge = servers.NewLodge(d)
	d.dir = d.lodge.Home
	d.log = servers.StartRekorV2(d, servers.RekorV2Config{Origin: "rekor.demo"})
	d.logURL = d.log.Front(d).URL
	d.registry = servers.StartRegistry(d, servers.Login{})
	d.image = d.registry.PushImage(repository, "v1", "a web server with openssl")
	d.Logf("a Rekor v2 log (rekor-tiles %s) runs at %s", servers.RekorTiles.Version, d.logURL)
	d.Logf("a registry (distribution %s) runs at %s and has the image %s:v1", servers.Distribution.Version, d.registry.Host, repository)
}

// files writes the keys and the statement.
func (d *scene) files() {
	key := servers.ECDSA(d, elliptic.P256())
	d.copyFile(key.Private, "key.pem")
	d.copyFile(key.Public, "key.pub")
	d.copyFile(d.log.Key.Public, "log.pub")
	statement, err := json.MarshalIndent(vex(d.registry.Host+"/"+repository, d.image), "", "  ")
	if err != nil {
		d.Fatalf("encoding the statement: %v", err)
	}
	d.write("vex.json", string(statement)+"\n")
}

// vex says of an image that a vulnerability in its openssl does not affect it: an in-toto
// statement with an OpenVEX document.
func vex(image, digest string) map[string]any {
	return map[string]any{
		"_type":         "https://in-toto.io/Statement/v1",
		"subject":       []any{map[string]any{"name": image, "digest": map[string]string{"sha256": strings.TrimPrefix(digest, "sha256:")}}},
		"predicateType": "https://openvex.dev/ns/v0.2.0",
		"predicate": map[string]any{
			"@context":  "https://openvex.dev/ns/v0.2.0",
			"@id":       "https://example.com/vex/web-2024-5535",
			"author":    "Example Security Team",
			"timestamp": "2026-01-15T09:00:00Z",
			"version":   1,
			"statements": []any{map[string]any{
				"vulnerability": map[string]string{"name": "CVE-2024-5535"},
				"products": []any{map[string]any{
					"@id":           "pkg:oci/web@" + strings.Replace(digest, ":", "%3A", 1),
					"subcomponents": []any{map[string]string{"@id": "pkg:deb/debian/openssl@3.0.13-1~deb12u1"}},
				}},
				"status":        "not_affected",
				"justification": "vulnerable_code_not_in_execute_path",
			}},
		},
	}
}

// push is the command that lodges the envelope.
func (d *scene) push() []string {
	return []string{
		"push", "vex.dsse.json", "--key", "key.pub",
		"--log", d.logURL, "--log-key", "log.pub", "--log-origin", d.log.Origin,
		"--oci", d.registry.Host + "/" + repository,
	}
}

// command shows a command as a newcomer would type it and runs it.
func (d *scene) command(args ...string) servers.Result {
	var line strings.Builder
	line.WriteString("$ lodge")
	for i, arg := range args {
		if i > 0 && args[0] == "push" && (arg == "--log" || arg == "--oci") {
			line.WriteString(" \\\n     ")
		}
		line.WriteString(" " + arg)
	}
	switch args[0] {
	case "sign":
		line.WriteString(" > vex.dsse.json")
	case "bundle":
		line.WriteString(" > bundle.json")
	}
	fmt.Println(line.String())
	result := d.lodge.Run(args...)
	fmt.Print(result.Stderr)
	if result.Code != 0 {
		d.Fatalf("exit status %d\n%s", result.Code, result.Stdout)
	}
	return result
}

func (d *scene) print(r servers.Result) { fmt.Print(r.Stdout) }

// count reads log and registry with other means than lodge's.
func (d *scene) count() {
	leaves, referrers := d.log.Size(), len(d.registry.Referrers(repository, d.image))
	fmt.Printf("The log has %s, the image has %s.\n", plural(int(leaves), "entry", "entries"), plural(referrers, "attestation", "attestations"))
	if leaves != 1 || referrers != 1 {
		d.Fatalf("there should be one of each")
	}
}

// same pushes once more, for programs, and makes sure that it is the first entry still. It
// returns the envelope's key.
func (d *scene) same() (key string) {
	out := d.lodge.Run(append(d.push(), "-o", "json")...)
	lines := json.NewDecoder(strings.NewReader(out.Stdout))
	n := 0
	for ; lines.More(); n++ {
		var delivery struct {
			Key, State string
			Duplicate  bool
			Receipt    struct{ Log *struct{ LogIndex int64 } }
		}
		if err := lines.Decode(&delivery); err != nil {
			d.Fatalf("reading %q: %v", out.Stdout, err)
		}
		log := delivery.Receipt.Log
		if delivery.State != "verified" || !delivery.Duplicate || log != nil && log.LogIndex != 0 {
			d.Fatalf("not the entry and the artifact of before: %s", out.Stdout)
		}
		key = delivery.Key
	}
	if n != 2 {
		d.Fatalf("%d deliveries instead of two: %s%s", n, out.Stdout, out.Stderr)
	}
	return key
}

func (d *scene) write(name, content string) {
	if err := os.WriteFile(filepath.Join(d.dir, name), []byte(content), 0o600); err != nil {
		d.Fatalf("%v", err)
	}
}

func (d *scene) copyFile(from, name string) {
	b, err := os.ReadFile(from)
	if err != nil {
		d.Fatalf("%v", err)
	}
	d.write(name, string(b))
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
