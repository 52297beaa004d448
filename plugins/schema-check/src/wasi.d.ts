declare module "wasi:config/store@0.2.0-rc.1" {
  /** A value of the plugin's `config` table, as text. */
  export function get(key: string): string | null;
}

declare module "wasi:logging/logging@0.1.0-draft" {
  export type Level = "trace" | "debug" | "info" | "warn" | "error" | "critical";
  export function log(level: Level, context: string, message: string): void;
}
