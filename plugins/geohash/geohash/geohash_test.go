package geohash

import "testing"

func TestPlacesThatAreKnown(t *testing.T) {
	for _, place := range []struct {
		latitude, longitude float64
		want                string
	}{
		{57.64911, 10.40744, "u4pruydqqvj8"},
		{42.6, -5.6, "ezs42e44yx96"},
		{-25.382708, -49.265506, "6gkzwgjzn820"},
		{0, 0, "s00000000000"},
	} {
		if got := Encode(place.latitude, place.longitude, MaxPrecision); got != place.want {
			t.Errorf("Encode(%v, %v) is %s, want %s", place.latitude, place.longitude, got, place.want)
		}
	}
}

func TestAShorterHashIsTheBeginningOfALongerOne(t *testing.T) {
	long := Encode(52.52, 13.405, MaxPrecision)
	for precision := 1; precision <= MaxPrecision; precision++ {
		if got := Encode(52.52, 13.405, precision); got != long[:precision] {
			t.Errorf("with %d digits it is %s, want %s", precision, got, long[:precision])
		}
	}
}
