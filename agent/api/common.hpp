// SPDX-License-Identifier: Apache-2.0
// What every answer of the admin API shares: the error body and the exit codes that meshctl and meshd promise.
#pragma once

#include <string>
#include <string_view>

#include "base/error.hpp"

namespace mesh::api {

inline constexpr std::string_view kDefaultSocket = "/run/meshd/meshd.sock";

/// Stable; documented in docs/cli.md and `meshctl --help`.
enum class ExitCode : int {
  kOk = 0,
  kFailure = 1,
  kUsage = 2,
  kDegraded = 3,
  kNotFound = 4,
  kDrift = 5,         ///< The kernel tables are not what the agent wants.
  kUnreachable = 69,  ///< EX_UNAVAILABLE: no agent answers.
  kPermission = 77,   ///< EX_NOPERM
  kBadConfig = 78,    ///< EX_CONFIG
};

/// Body of every answer with a status of 400 or more.
struct ErrorView {
  static constexpr std::string_view kKind = "Error";
  std::string code;  ///< name of the base::ErrorKind: "not_found"
  std::string message;
  std::string remedy;
  static void fields(auto& self, auto& visit) {
    visit("code", self.code);
    visit("message", self.message);
    visit("remedy", self.remedy);
  }
};

std::string_view to_string(base::ErrorKind kind);        ///< "invalid", "not_found", ...
base::ErrorKind error_kind_from(std::string_view code);  ///< Unknown text: kSystem.
ErrorView to_view(const base::Error& error);
base::Error to_error(const ErrorView& view);
ExitCode exit_code_for(base::ErrorKind kind);

/// One finding in a configuration file.
struct DiagnosticView {
  std::string file;
  int line = 0;    ///< From 1; 0: the whole file.
  int column = 0;  ///< From 1.
  std::string key;
  std::string message;
  std::string suggestion;
  static void fields(auto& self, auto& visit) {
    visit("file", self.file);
    visit("line", self.line);
    visit("column", self.column);
    visit("key", self.key);
    visit("message", self.message);
    visit("suggestion", self.suggestion);
  }
};

struct VersionView {
  static constexpr std::string_view kKind = "Version";
  std::string version;   ///< "0.1.0"
  std::string revision;  ///< of the source, "" if unknown
  std::string compiler;
  std::string layout;  ///< of the kernel tables: "1.0"
  static void fields(auto& self, auto& visit) {
    visit("version", self.version);
    visit("revision", self.revision);
    visit("compiler", self.compiler);
    visit("layout", self.layout);
  }
};

}  // namespace mesh::api
