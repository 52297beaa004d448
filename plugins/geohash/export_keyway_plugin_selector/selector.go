// A key selector that makes the place of a record its key: what happens in one area lands on one partition, in order.
//
// This package has the name by which the bindings call it.
package export_keyway_plugin_selector

import (
	"encoding/json"
	"fmt"
	"strconv"

	types "go.bytecodealliance.org/pkg/wit/types"

	keyway "geohash/bindings/keyway_plugin_types"
	config "geohash/bindings/wasi_config_store"
	"geohash/geohash"
)

// Areas of some 5 by 5 kilometres.
const defaultPrecision = 5

// What the value has to have, whatever else there is in it.
type place struct {
	Latitude  *float64 `json:"lat"`
	Longitude *float64 `json:"lon"`
}

// Select makes the geohash of the value's `lat` and `lon` the key. An error refuses the record, and whoever sent it reads the
// text.
func Select(candidate keyway.Candidate, partitions uint32) types.Result[keyway.Target, string] {
	key, err := key(candidate.Value.SomeOr(nil))
	if err != nil {
		return types.Err[keyway.Target](err.Error())
	}
	return types.Ok[keyway.Target, string](keyway.MakeTargetKey([]byte(key)))
}

func key(value []byte) (string, error) {
	precision, err := precision()
	if err != nil {
		return "", err
	}
	var at place
	if err := json.Unmarshal(value, &at); err != nil {
		return "", fmt.Errorf("no place in the value: %w", err)
	}
	switch {
	case at.Latitude == nil || at.Longitude == nil:
		return "", fmt.Errorf("no place in the value: it needs the numbers `lat` and `lon`")
	case *at.Latitude < -90 || *at.Latitude > 90:
		return "", fmt.Errorf("`lat` is from -90 to 90, got %v", *at.Latitude)
	case *at.Longitude < -180 || *at.Longitude > 180:
		return "", fmt.Errorf("`lon` is from -180 to 180, got %v", *at.Longitude)
	}
	return geohash.Encode(*at.Latitude, *at.Longitude, precision), nil
}

// precision is the number of digits, from `config = { precision = 5 }`.
func precision() (int, error) {
	found := config.Get("precision")
	if found.IsErr() || found.Ok().IsNone() {
		return defaultPrecision, nil
	}
	text := found.Ok().Some()
	precision, err := strconv.Atoi(text)
	if err != nil || precision < 1 || precision > geohash.MaxPrecision {
		return 0, fmt.Errorf("config `precision` is a number from 1 to %d, got `%s`", geohash.MaxPrecision, text)
	}
	return precision, nil
}
