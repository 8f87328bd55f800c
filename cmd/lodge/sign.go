package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/dsse"
)

func newSign(a *app) *cobra.Command {
	var key, payloadType string
	var prehash bool
	cmd := &cobra.Command{
		Use:   "sign STATEMENT --key PEM",
		Short: "Sign a statement: print a DSSE envelope",
		Long: `Sign a statement with a private key and print the DSSE envelope. Signing the same bytes
again gives the same envelope: ECDSA by RFC 6979, RSA by PKCS #1 v1.5, Ed25519.

The key is unencrypted PEM (PKCS #8, SEC 1, PKCS #1). Rekor v2 takes Ed25519 keys only as
Ed25519ph (--ed25519ph); Rekor v1 only without.

STATEMENT is a file, or - for standard input. Its bytes are signed as they are. The payload
type is application/vnd.in-toto+json for in-toto statements and application/json for other
JSON; for anything else it has to be given.

A pair of keys: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem
and openssl pkey -in key.pem -pubout -out key.pub`,
		Example: `  lodge sign vex.json --key key.pem > vex.dsse.json
  lodge sign report.xml --key key.pem --payload-type application/xml > report.dsse.json`,
		Args: takes(1, 1, "the STATEMENT to sign"),
		RunE: func(_ *cobra.Command, args []string) error {
			if key == "" {
				return misused("--key is missing: the private key to sign with")
			}
			private, err := a.privateKey(key, prehash)
			if err != nil {
				return err
			}
			payload, err := a.readInput(args[0], dsse.MaxPayload)
			if err != nil {
				return unreadable(fmt.Errorf("%s: %w", args[0], err))
			}
			if payloadType == "" {
				if payloadType, err = guessType(payload); err != nil {
					return unreadable(fmt.Errorf("%s: %w", args[0], err))
				}
			}
			envelope, err := dsse.Sign(payloadType, payload, private)
			if err != nil {
				return unreadable(fmt.Errorf("%s: %w", args[0], err))
			}
			return a.print("%s\n", envelope)
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "private key `PEM` file")
	cmd.Flags().StringVar(&payloadType, "payload-type", "", "media `TYPE` of the payload")
	cmd.Flags().BoolVar(&prehash, "ed25519ph", false, "sign with an Ed25519 key over the SHA-512 digest, as Rekor v2 wants it")
	return cmd
}

func (a *app) privateKey(path string, prehash bool) (*dsse.PrivateKey, error) {
	raw, err := a.readSmall("--key", path)
	if err != nil {
		return nil, err
	}
	key, err := dsse.ParsePrivateKey(raw)
	if err == nil && prehash {
		key, err = key.Use(dsse.Ed25519ph)
	}
	if err != nil {
		return nil, unreadable(fmt.Errorf("--key %s: %w", path, err))
	}
	return key, nil
}

// inTotoType is the payload type of in-toto statements (attestation framework, envelope).
const inTotoType = "application/vnd.in-toto+json"

func guessType(payload []byte) (string, error) {
	statement := bundle.ParseStatement(inTotoType, payload)
	switch _, err := bundle.ParseSigned(payload); {
	case err == nil:
		return "", errors.New("it is signed already: push it as it is, or say with --payload-type what it is to sign it once more")
	case statement.PredicateType != "" || len(statement.Subjects) > 0:
		return inTotoType, nil
	case json.Valid(payload):
		return "application/json", nil
	}
	return "", errors.New("it is not JSON: say with --payload-type what it is")
}
