// The plugin is in export_keyway_plugin_*: the bindings, which `keyway plugin build` writes from wit/world.wit, call it there.
package main

import _ "geohash/bindings/wit_exports"

func main() {} // never called
