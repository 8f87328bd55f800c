package hint

import "strings"

func isVulns(s shape) bool { return kindOf(s["scanner"]) == '{' }

// vulnerabilityScan reads in-toto vulns (v0.1, v0.2) and cosign vuln (v1), whose result is
// the JSON of any tool. The scanner itself is no product.
func (x *extraction) vulnerabilityScan() {
	x.top(func(name []byte) {
		if string(name) != "scanner" {
			return
		}
		x.object(func(name []byte) {
			if string(name) == "result" {
				x.nested((*extraction).results)
			}
		})
	})
}

// results reads [{id}], or in the words of v0.1 [{vulnerability: {id}}].
func (x *extraction) results() {
	if x.peek() != '[' {
		x.generic()
		return
	}
	x.objects(func(name []byte) {
		switch string(name) {
		case "id":
			x.vuln(x.text())
		case "aliases":
			x.texts(func(s string) { x.vuln(s) })
		case "vulnerability":
			x.object(func(name []byte) {
				if string(name) == "id" {
					x.vuln(x.text())
				}
			})
		}
	})
}

func isTrivy(s shape) bool {
	return s.has("SchemaVersion") && (s.has("Results") || s.has("ArtifactName")) || s.has("Target") && (s.has("Vulnerabilities") || s.has("Packages"))
}

// trivy reads a Trivy report, or the list of results that old ones are.
func (x *extraction) trivy() {
	if x.peek() == '[' {
		x.objects(x.trivyResult)
		return
	}
	x.top(func(name []byte) {
		switch string(name) {
		case "ArtifactID":
			x.imageDigest(x.text())
		case "Metadata":
			x.trivyMetadata()
		case "Results":
			x.objects(x.trivyResult)
		}
	})
}

func (x *extraction) trivyMetadata() {
	x.object(func(name []byte) {
		switch string(name) {
		case "ImageID":
			x.imageDigest(x.text())
		case "RepoDigests":
			x.texts(x.imageDigest)
		case "DiffIDs":
			x.texts(x.digestsIn)
		case "Layers":
			x.array(x.layer)
		}
	})
}

// imageDigest takes "sha256:…" or "name@sha256:…" of what a document is about.
func (x *extraction) imageDigest(s string) { scanDigests(s, x.subject) }

// layer reads {Digest, DiffID} or {digest}.
func (x *extraction) layer() {
	x.object(func(name []byte) {
		switch string(name) {
		case "Digest", "DiffID", "digest":
			x.digestsIn(x.text())
		}
	})
}

func (x *extraction) trivyResult(name []byte) {
	switch string(name) {
	case "Vulnerabilities":
		x.objects(x.trivyFinding)
	case "Packages":
		x.objects(x.trivyFinding)
	case "ExperimentalModifiedFindings": // suppressed by VEX
		x.objects(func(name []byte) {
			if string(name) == "Finding" {
				x.object(x.trivyFinding)
			}
		})
	}
}

// trivyFinding reads a member of a vulnerability or package.
func (x *extraction) trivyFinding(name []byte) {
	switch string(name) {
	case "VulnerabilityID":
		x.vuln(x.text())
	case "VendorIDs":
		x.texts(x.advisory)
	case "PkgName", "Name", "SrcName":
		x.component("", x.text())
	case "PkgIdentifier", "Identifier":
		x.object(func(name []byte) {
			if string(name) == "PURL" {
				if s := x.text(); s != "" {
					x.purl(s)
				}
			}
		})
	case "Layer":
		x.layer()
	case "Digest", "Fingerprint":
		x.digestsIn(x.text())
	}
}

func isGrype(s shape) bool {
	return kindOf(s["matches"]) == '[' && (s.has("source") || s.has("descriptor"))
}

// grype reads a report of Grype.
func (x *extraction) grype() {
	x.top(func(name []byte) {
		switch string(name) {
		case "matches", "ignoredMatches":
			x.objects(x.grypeMatch)
		case "source":
			x.syftSource()
		case "descriptor":
			x.skip()
		}
	})
}

func (x *extraction) grypeMatch(name []byte) {
	id := func(name []byte) {
		if string(name) == "id" {
			x.vuln(x.text())
		}
	}
	switch string(name) {
	case "vulnerability":
		x.object(id)
	case "relatedVulnerabilities":
		x.objects(id)
	case "artifact":
		x.object(x.syftPackage)
	}
}

func isSyft(s shape) bool {
	return kindOf(s["artifacts"]) == '[' && (s.has("source") || s.has("descriptor") || s.has("artifactRelationships"))
}

// syft reads an SBOM in Syft's own form.
func (x *extraction) syft() {
	x.top(func(name []byte) {
		switch string(name) {
		case "artifacts":
			x.objects(x.syftPackage)
		case "source":
			x.syftSource()
		case "files":
			x.objects(func(name []byte) {
				if string(name) == "digests" {
					x.hashes("algorithm", "value", nil)
				}
			})
		case "descriptor", "artifactRelationships":
			x.skip()
		}
	})
}

// syftPackage reads a member of a package as Syft and Grype have it.
func (x *extraction) syftPackage(name []byte) {
	switch string(name) {
	case "name":
		x.component("", x.text())
	case "purl":
		if s := x.text(); s != "" {
			x.purl(s)
		}
	case "cpes":
		x.array(func() {
			if x.peek() == '"' {
				x.cpe(x.text())
				return
			}
			x.object(func(name []byte) {
				if string(name) == "cpe" {
					x.cpe(x.text())
				}
			})
		})
	case "upstreams":
		x.objects(func(name []byte) {
			if string(name) == "name" {
				x.component("", sourceName(x.text()))
			}
		})
	case "metadata":
		x.syftMetadata()
	}
}

// syftMetadata reads the source package: of dpkg, rpm or apk.
func (x *extraction) syftMetadata() {
	if x.peek() != '{' {
		return
	}
	x.members(func(name []byte) {
		switch string(name) {
		case "source", "sourceRpm", "originPackage":
			if x.peek() == '"' {
				x.component("", sourceName(x.text()))
			}
		}
	}, nil)
}

// syftSource reads what was scanned.
func (x *extraction) syftSource() {
	x.object(func(name []byte) {
		switch string(name) {
		case "target", "metadata":
			if x.peek() == '"' { // a folder
				x.imageDigest(x.text())
				return
			}
			x.object(func(name []byte) {
				switch string(name) {
				case "imageID", "manifestDigest", "userInput":
					x.imageDigest(x.text())
				case "repoDigests":
					x.texts(x.imageDigest)
				case "layers":
					x.array(x.layer)
				}
			})
		}
	})
}

func isSARIF(s shape) bool { return kindOf(s["runs"]) == '[' }

// sarif reads a SARIF log (OASIS SARIF 2.1.0): rules and results that are named after a
// vulnerability.
func (x *extraction) sarif() {
	x.top(func(name []byte) {
		if string(name) == "runs" {
			x.objects(x.sarifRun)
		}
	})
}

func (x *extraction) sarifRun(name []byte) {
	switch string(name) {
	case "tool":
		x.object(func(name []byte) {
			switch string(name) {
			case "driver":
				x.object(x.sarifRules)
			case "extensions":
				x.objects(x.sarifRules)
			}
		})
	case "results":
		x.objects(func(name []byte) {
			switch string(name) {
			case "ruleId":
				x.ruleID(x.text())
			case "rule":
				x.object(func(name []byte) {
					if string(name) == "id" {
						x.ruleID(x.text())
					}
				})
			}
		})
	case "properties":
		x.object(func(name []byte) {
			switch string(name) {
			case "imageID":
				x.imageDigest(x.text())
			case "repoDigests":
				x.texts(x.imageDigest)
			}
		})
	}
}

func (x *extraction) sarifRules(name []byte) {
	if string(name) != "rules" {
		return
	}
	x.objects(func(name []byte) {
		switch string(name) {
		case "id":
			x.ruleID(x.text())
		case "properties":
			x.object(func(name []byte) {
				if string(name) == "purls" {
					x.texts(func(s string) { x.purl(s) })
				}
			})
		}
	})
}

// ruleID takes a rule's id, which may go on with a package: CVE-2024-3094-xz.
func (x *extraction) ruleID(s string) {
	id, n := vulnAt(s, 0)
	if n == 0 {
		return
	}
	x.vulns = append(x.vulns, id)
	if name, ok := strings.CutPrefix(s[n:], "-"); ok {
		x.component("", name)
	}
}
