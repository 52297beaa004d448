// The plugin is in export_keyway_plugin_*: the bindings, which `keyway plugin build` writes from wit/world.wit, call it there.
package main

import _ "my-plugin/bindings/wit_exports"

func main() {} // never called
