// Package chaos breaks everything around lodge, and lodge itself, while it delivers to real
// servers: processes die and hang, replies are lost, databases vanish, disks are full. What
// is in logs, registries and databases in the end is read by other means than lodge's.
//
// Its tests take minutes and a good part of the machine, so they are run by themselves:
// make chaos, or make chaos SHORT=1 for a quarter of the envelopes and without the faults that
// take long. What is random comes from a seed that is printed; -chaos.seed repeats it.
//
// It may import anything. Of lodge it uses the command; packages deliver, oci and store
// where a test needs what the command can't be told.
package chaos
