// SPDX-License-Identifier: Apache-2.0
// The files of what is fetched. Readable by their owner only; each change is one rename.
//
//   NAME.crt, NAME.key   links to what is in force: a folder as a listener's certificates take it, on other nodes too
//   .NAME                link to .NAME.a or .NAME.b, each with tls.crt, tls.key and the directory they came from
//   .account.key, .account.json
//   .lock                held by the process that fetches
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "tls/private_key.hpp"

namespace mesh::acme {

struct Account {
  std::string directory;
  std::string url;
  std::vector<std::string> contact;
  bool operator==(const Account&) const = default;
};

/// A certificate as it is in the folder.
struct Stored {
  std::shared_ptr<const tls::Certificate> certificate;
  std::string directory;
};

class Folder {
 public:
  /// Makes the folder if it is missing. kConflict if another process fetches into it.
  static base::Result<Folder> open(const std::string& path);

  /// Made by the first call ever.
  base::Result<tls::PrivateKey> account_key();
  /// As it was written; nothing if there is none that is of use.
  [[nodiscard]] std::optional<Account> account() const;
  base::Result<void> write_account(const Account& account);

  [[nodiscard]] std::optional<Stored> read(const std::string& name) const;
  /// In force once it returns; an error leaves what was.
  base::Result<void> write(const std::string& name, const std::string& directory, const std::string& key_pem,
                           const std::string& chain_pem);

 private:
  Folder(std::string path, base::Fd lock) : path_(std::move(path)), lock_(std::move(lock)) {}
  base::Result<void> point(const std::string& link, const std::string& target);
  [[nodiscard]] std::string file(const std::string& name) const { return path_ + "/" + name; }

  std::string path_;
  base::Fd lock_;
};

}  // namespace mesh::acme
