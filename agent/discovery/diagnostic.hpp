// SPDX-License-Identifier: Apache-2.0
// Findings in what people write: where, which key, what is wrong, what to write instead. All findings of a file are
// collected, not only the first.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "base/error.hpp"

namespace mesh::discovery {

/// One finding; `to_string` is "FILE:LINE:COLUMN: KEY: message; suggestion".
struct Diagnostic {
  std::string file;
  int line = 0;     ///< From 1; 0: the whole file.
  int column = 0;   ///< From 1.
  std::string key;  ///< "services[2].probe.interval"
  std::string message;
  std::string suggestion;

  [[nodiscard]] std::string to_string() const;
  bool operator==(const Diagnostic&) const = default;
};

/// Errors make the file useless; warnings don't. Beyond kMax errors only their number is kept.
struct Findings {
  static constexpr std::size_t kMax = 100;
  std::vector<Diagnostic> errors;
  std::vector<Diagnostic> warnings;
  std::size_t dropped = 0;  ///< Errors beyond kMax.

  void add_error(Diagnostic diagnostic);
  void add_warning(Diagnostic diagnostic);
  [[nodiscard]] std::size_t error_count() const { return errors.size() + dropped; }
  void append(Findings other);

  /// The first error and how many more there are, as one kInvalid Error. There must be one.
  [[nodiscard]] base::Error to_error() const;
};

}  // namespace mesh::discovery
