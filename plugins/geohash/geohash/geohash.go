// Package geohash encodes places as geohashes: short texts of which a common beginning means the same area.
package geohash

// A digit is five bits. The letters a, i, l and o are left out.
const digits = "0123456789bcdefghjkmnpqrstuvwxyz"

// MaxPrecision is the longest geohash, an area of some 4 by 2 centimetres.
const MaxPrecision = 12

// Encode gives the geohash of a place in degrees, with so many digits: 5 are an area of some 5 by 5 kilometres.
func Encode(latitude, longitude float64, precision int) string {
	south, north := -90.0, 90.0
	west, east := -180.0, 180.0
	hash := make([]byte, precision)
	odd := false // bits of longitude and latitude take turns, longitude first
	for i := range hash {
		digit := 0
		for range 5 {
			if odd {
				digit = digit<<1 | halve(latitude, &south, &north)
			} else {
				digit = digit<<1 | halve(longitude, &west, &east)
			}
			odd = !odd
		}
		hash[i] = digits[digit]
	}
	return string(hash)
}

// halve narrows the range to the half that the value is in: 1 is the upper one.
func halve(value float64, low, high *float64) int {
	middle := (*low + *high) / 2
	if value >= middle {
		*low = middle
		return 1
	}
	*high = middle
	return 0
}
