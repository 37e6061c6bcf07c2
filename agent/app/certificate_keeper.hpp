// SPDX-License-Identifier: Apache-2.0
// The certificate of the metrics listener: read at start and again when its files change. A bad one is refused and the
// one before stays in use, with the reason in status and metrics.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "app/config.hpp"
#include "base/clock.hpp"
#include "base/error.hpp"
#include "tls/server.hpp"

namespace mesh::app {

class CertificateKeeper {
 public:
  /// Reads the files. kNotFound, kPermission or kInvalid with the file, if they can't be used.
  static base::Result<std::unique_ptr<CertificateKeeper>> open(CertificateFiles files);

  /// Reads the files again; for a slow thread, once in a while. What changed is taken when two looks in a row saw the
  /// same: certificate and key are two files and not replaced at one instant.
  void look();

  // From any thread.
  [[nodiscard]] std::shared_ptr<const tls::ServerContext> context() const;
  [[nodiscard]] std::optional<base::Error> error() const;  ///< Why the files as they are now are not in use.
  [[nodiscard]] const CertificateFiles& files() const { return files_; }

 private:
  struct Content {
    std::string certificate;
    std::string key;
    std::optional<base::Error> unreadable;
    [[nodiscard]] std::uint64_t hash() const;
  };
  explicit CertificateKeeper(CertificateFiles files) : files_(std::move(files)) {}
  [[nodiscard]] Content read() const;
  base::Result<void> take(const Content& content);

  const CertificateFiles files_;
  std::uint64_t taken_ = 0;  ///< Hash of what was tried last; the looking thread's own, as the next.
  std::uint64_t seen_ = 0;
  mutable std::mutex mutex_;
  std::shared_ptr<const tls::ServerContext> context_;  // guarded by mutex_, as the next
  std::optional<base::Error> error_;
};

}  // namespace mesh::app
