// SPDX-License-Identifier: Apache-2.0
// What the file source knows: the documents, what was last good in each, and all their services in order. It reads
// files when told that they changed, and has no thread and no watch: tests drive it step by step.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "discovery/file.hpp"
#include "discovery/service_file.hpp"

namespace mesh::discovery {

class FileStore {
 public:
  explicit FileStore(Restored restored) : restored_(std::move(restored)) {}

  /// Takes over an input and reads all its files that are new or changed, or whose settings did.
  void configure(SourceInput input, Vanished vanished, base::WallTime now);
  void set_stale(base::Error reason);

  /// One path that may have changed: a file, or a folder whose list of files did. True if there is something to
  /// publish.
  bool refresh(const std::string& path, base::WallTime now);
  /// A file that was written within the last second may still have its writer at work.
  enum class Unsettled { kSkip, kRead };
  /// Everything whose size, time or inode changed.
  bool rescan(Unsettled unsettled, base::WallTime now);

  /// The files and folders to watch.
  [[nodiscard]] std::vector<std::string> paths() const;
  /// True once after paths() changed.
  bool take_paths_changed();

  /// All services, sorted by frontend, and the status. `watch_error`: why changes may be missed.
  UpdatePtr update(const std::optional<base::Error>& watch_error);

 private:
  struct Signature {
    dev_t device = 0;
    ino_t inode = 0;
    off_t size = -1;
    std::int64_t modified_ns = 0;
    std::int64_t changed_ns = 0;
    bool operator==(const Signature&) const = default;
  };
  enum class Role { kInline, kServices, kEndpoints };
  struct Document {
    std::string path;
    Role role = Role::kServices;
    std::size_t order = 0;                    ///< Precedence: as in the configuration, what is inline first.
    std::string folder;                       ///< Found in this folder; empty: named in the configuration.
    std::vector<model::ServicePtr> settings;  ///< kEndpoints: whose endpoints they are.
    std::vector<model::ServicePtr> services;  ///< Last good ones, sorted by frontend.
    std::vector<KnownElement> known;          ///< Of `services`, under the defaults of now.
    std::size_t endpoints = 0;
    Signature signature;
    bool was_good = false;  ///< `services` are an answer, of synced_at.
    base::WallTime synced_at{};
    std::optional<base::Error> error;
  };
  struct Entry {
    model::ServicePtr service;
    const Document* document;
  };

  static bool before(const Entry& a, const Entry& b);
  static base::Result<std::string> load(const std::string& path, Signature& signature);
  static Signature signature_of(const struct stat& status);
  static Signature signature_of(const std::string& path);  ///< All default if it can't be looked at.

  Document& document(const std::string& path, Role role, std::size_t order);
  void drop_documents(const std::string& path);
  bool read(Document& document, base::WallTime now);
  bool read_root(const std::string& path, std::size_t order, base::WallTime now);
  bool list_folder(const std::string& folder, std::size_t order, base::WallTime now);
  void apply_settings(Document& document, std::vector<model::ServicePtr> settings);
  bool take_over(Document& document, std::vector<model::ServicePtr> services);
  void restore(Document& document);
  void restore_folder(const std::string& folder, std::size_t order);
  void update_entries(const Document& document);
  void rebuild_entries();

  Restored restored_;
  SourceInput input_;
  Document inline_{.path = "", .role = Role::kInline};
  std::map<std::string, Document> documents_;       ///< By path.
  std::map<std::string, std::size_t> roots_;        ///< `files:`: a file or folder, and its order.
  std::map<std::string, base::Error> root_errors_;  ///< Folders that can't be listed.
  std::vector<Entry> entries_;                      ///< Sorted by before().
  bool batching_ = false;                           ///< Entries are rebuilt once, at the end of many reads.
  bool paths_changed_ = false;
  std::uint64_t generation_ = 0;
  std::uint64_t errors_ = 0;
};

}  // namespace mesh::discovery
