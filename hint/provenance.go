package hint

func isProvenance(s shape) bool {
	return s.has("buildDefinition") || s.has("runDetails") || s.has("builder") && (s.has("buildType") || s.has("recipe"))
}

// provenance reads SLSA provenance of versions 0.1, 0.2 and 1.x, and what is made after it.
func (x *extraction) provenance() {
	x.top(func(name []byte) {
		switch string(name) {
		case "buildDefinition":
			x.object(func(name []byte) {
				if string(name) == "resolvedDependencies" {
					x.descriptors()
				} else {
					x.generic()
				}
			})
		case "runDetails":
			x.runDetails()
		case "builder":
			x.builderID()
		case "materials":
			x.descriptors()
		case "invocation":
			x.object(func(name []byte) {
				if string(name) == "configSource" {
					x.descriptor(nil)
				} else {
					x.generic()
				}
			})
		case "recipe", "buildConfig", "policyEvaluationsRef":
			x.generic()
		}
	})
}

func (x *extraction) runDetails() {
	x.object(func(name []byte) {
		switch string(name) {
		case "builder":
			x.builderID()
		case "byproducts":
			x.descriptors()
		}
	})
}

func (x *extraction) builderID() {
	x.object(func(name []byte) {
		switch string(name) {
		case "id":
			x.builder(x.text())
		case "builderDependencies":
			x.descriptors()
		}
	})
}

func isLink(s shape) bool {
	return s.text("_type") == "link" || s.has("materials", "products") && (s.has("byproducts") || s.has("command"))
}

// link reads an in-toto link (in-toto 1.0, section 4.4), bare or as a predicate. Its
// products are what it is about.
func (x *extraction) link() {
	x.top(func(name []byte) {
		switch string(name) {
		case "materials":
			x.artifacts(nil)
		case "products":
			x.artifacts(x.subject)
		case "_type", "command", "byproducts":
			x.skip()
		}
	})
}

// artifacts reads {name: {alg: hex}}, or since link v0.3 a list of descriptors.
func (x *extraction) artifacts(each func(digest string)) {
	if x.peek() == '[' {
		x.array(func() { x.descriptor(each) })
		return
	}
	x.object(func(name []byte) {
		x.reference(string(name))
		x.digestSet(each)
	})
}

func isCollection(s shape) bool { return kindOf(s["attestations"]) == '[' }

// collection reads a witness collection: each attestation may be any document. What witness
// wraps (a report of another tool) is one level deeper.
func (x *extraction) collection() {
	x.top(func(name []byte) {
		if string(name) != "attestations" {
			return
		}
		x.objects(func(name []byte) {
			if string(name) == "attestation" {
				x.nested((*extraction).attestor)
			}
		})
	})
}

// attestor reads what one of witness' own attestors says.
func (x *extraction) attestor() {
	if x.peek() != '{' {
		x.generic()
		return
	}
	x.members(func(name []byte) {
		switch field := string(name); {
		case field == "commithash":
			if d, ok := normalDigest("gitCommit", x.text()); ok {
				x.digests = append(x.digests, d)
			}
		case field == "variables": // of the environment
			x.skip()
		case x.peek() == '{':
			x.nested((*extraction).generic)
		default:
			x.anything(field)
		}
	}, nil)
}

// verdict reads what a policy engine has decided. Besides what looks like an identifier it
// notes the policies, which it must not trigger.
func (x *extraction) verdict() { x.decision(false) }

// decision reads one value, which is about a policy or not.
func (x *extraction) decision(policy bool) {
	switch x.peek() {
	case '{':
		x.members(func(name []byte) {
			switch string(name) {
			case "policy", "policies", "policySource", "policyUri", "policyId", "policyDigest", "policy_uri", "policy_id", "policy_digest":
				x.decision(true)
			case "digest":
				x.digestSet(func(d string) {
					if policy {
						x.policies = append(x.policies, d)
					}
				})
			default:
				x.decision(policy)
			}
		}, nil)
	case '[':
		x.elements(func() { x.decision(policy) })
	case '"':
		text := x.text()
		x.pattern("", text)
		if policy && text != "" {
			x.policies = append(x.policies, bounded(escape(text), maxValue))
		}
	default:
		x.skip()
	}
}
