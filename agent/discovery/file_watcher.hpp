// SPDX-License-Identifier: Apache-2.0
// Says which of a set of paths may have changed, by inotify on the folders involved: the folder of the file, those of
// every symbolic link on the way (a ConfigMap's `..data` is one), and of the first part that is missing. It has no
// thread: its descriptor becomes readable.
//
// A write counts when the writer closes the file or renames it into place, so half-written files are not reported. What
// inotify can't see (network file systems, a renamed folder far up) is found by whoever asks from time to time.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/error.hpp"
#include "base/fd.hpp"

namespace mesh::discovery {

class FileWatcher {
 public:
  static base::Result<FileWatcher> make();

  /// Watches `path`, a file or a folder that may not exist yet; twice is once.
  void add(const std::string& path);
  void remove(const std::string& path);

  [[nodiscard]] int fd() const { return inotify_.get(); }

  /// The paths that may have changed since the last call, each once. After a queue overflow: all of them.
  std::vector<std::string> take_changes();

  [[nodiscard]] std::size_t overflows() const { return overflows_; }
  /// Why some folder is not watched (fs.inotify.max_user_watches, permission), while that is so.
  [[nodiscard]] const std::optional<base::Error>& error() const { return error_; }

 private:
  using Id = std::uint32_t;
  struct Link {
    int watch;
    std::string name;  ///< Empty: any name in that folder.
  };
  struct Target {
    std::string path;
    std::vector<Link> links;
  };
  struct Folder {
    std::string path;
    std::unordered_map<std::string, std::vector<Id>> by_name;
    std::vector<Id> whole;
    [[nodiscard]] bool unused() const { return by_name.empty() && whole.empty(); }
  };

  explicit FileWatcher(base::Fd inotify) : inotify_(std::move(inotify)) {}
  void link(Id id, Target& target);
  void unlink(Id id, Target& target);
  void link_to(Id id, Target& target, const std::string& folder, std::string name);

  base::Fd inotify_;
  std::unordered_map<std::string, Id> ids_;
  std::unordered_map<Id, Target> targets_;
  std::unordered_map<int, Folder> folders_;
  Id next_id_ = 1;
  std::size_t overflows_ = 0;
  std::optional<base::Error> error_;
};

}  // namespace mesh::discovery
